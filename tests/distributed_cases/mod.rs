pub mod ranks;
pub mod work;

pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error>>;
