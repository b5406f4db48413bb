mod dimensions;
mod page;
mod reconstruction;
mod small_run;
mod tensorboard;
