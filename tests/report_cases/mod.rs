mod dimensions;
mod page;
mod pages;
mod painting;
mod run;
mod tensorboard;
