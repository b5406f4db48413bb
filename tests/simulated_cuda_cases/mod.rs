mod budgets;
mod counters;
mod mix_ups;
mod scenarios;
mod warnings;
