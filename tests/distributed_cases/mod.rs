pub mod equality;
mod faults;
pub mod faulty;
pub mod ranks;
pub mod restarts;
pub mod searches;
pub mod torchrun;
pub mod work;

pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error>>;
