pub mod buffered;
pub mod equality;
mod faults;
pub mod faulty;
pub mod ranks;
pub mod restarts;
pub mod searches;
pub mod torchrun;
pub mod work;

#[path = "../wrapped/indexed_network.rs"]
pub mod indexed_network;
#[path = "../wrapped/late_network.rs"]
pub mod late_network;
#[path = "../wrapped/recipe_network.rs"]
#[allow(dead_code, reason = "the tests of wrapped networks use all of it")]
pub mod recipe_network;

pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error>>;
