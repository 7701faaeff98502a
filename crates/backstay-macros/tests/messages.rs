//! Compile errors for wrong uses of the attributes.

// CB-12: an error type that cannot hold the rejection, and each misspelt or invalid argument, is a compile error.
#[test]
fn wrong_uses_are_compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/messages/*.rs");
}
