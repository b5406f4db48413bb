mod budgets;
mod counters;
mod scenarios;
