mod dimensions;
mod page;
mod reconstruction;
mod sensitivity;
mod small_run;
mod tensorboard;
