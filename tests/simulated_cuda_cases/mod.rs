mod budgets;
mod counters;
mod mix_ups;
mod order;
mod scenarios;
mod warnings;
