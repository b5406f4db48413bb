//! The comparison that all tests rest on can fail, and says why.

use crate::support::{from_numbers, run_cases, TestResult, Tolerance};
#[test]
fn a_mismatch_names_the_worst_place_and_both_numbers() -> TestResult {
    let expected = from_numbers(&[1.0, 2.0, 3.0, 4.0], &[2, 2])?;
    let actual = from_numbers(&[1.0, 2.5, 4.0, 4.0], &[2, 2])?;
    let tolerance = Tolerance { relative: 0.1, absolute: 0.25 };
    let words = tolerance.check("x", &actual, &expected).map_err(|e| e.to_string());
    let words = words.err().ok_or("3 was taken for 4")?;
    for part in ["x: 2 of 4", "at [1, 0]", "4e0, expected 3e0", "allowed 5.5e-1"] {
        assert!(words.contains(part), "{part} is missing in {words}");
    }
    Tolerance { relative: 0.1, absolute: 0.75 }.check("x", &actual, &expected)
}

#[test]
fn nan_other_shapes_and_nothing_are_never_close() -> TestResult {
    let generous = Tolerance { relative: 1.0, absolute: f64::MAX };
    let one = from_numbers(&[1.0], &[1])?;
    let nan = from_numbers(&[f64::NAN], &[1])?;
    assert!(generous.check("nan", &nan, &one).is_err());
    assert!(generous.check("nan", &one, &nan).is_err());
    assert!(generous.check("shape", &one, &one.reshape([1, 1])).is_err());
    assert!(generous.check("empty", &one.narrow(0, 0, 0), &one.narrow(0, 0, 0)).is_err());
    Tolerance::relative(0.0).check("equal", &one, &one)
}

#[test]
#[should_panic(expected = "1 of 2 cases failed:\neven: odd one out")]
fn a_failed_case_is_named() {
    let run = |case: &i64| if case % 2 == 0 { Err("odd one out".into()) } else { Ok(()) };
    run_cases([1, 2], |_| "even", run);
}

#[test]
#[should_panic(expected = "no case of this kind")]
fn no_case_is_a_failure() {
    run_cases([(); 0], |()| "", |()| Ok(()));
}
