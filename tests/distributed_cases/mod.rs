mod equality;
pub mod ranks;
pub mod searches;
pub mod work;

pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error>>;
