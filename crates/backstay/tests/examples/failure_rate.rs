//! Three of five requests fail: the timeline of two breakers.

use super::child::example;

// CB-14: the rate opens the circuit, a count of consecutive failures does not.
#[test]
fn the_rate_opens_and_the_count_does_not() {
    let output = example("failure_rate").output().unwrap();
    assert!(output.status.success());
    let (told, shown) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
    assert!(told.contains("closed -> open: ") && told.contains(" calls failed"), "{told}");
    let rejected = |name: &str| shown.lines().any(|line| line.starts_with(name) && line.ends_with(" 0 rejected"));
    assert!(rejected("consecutive") && !rejected("failure rate"), "{shown}");
}
