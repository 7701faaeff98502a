//! What the compiler says about mistakes.

// CB-12: a type that cannot hold the rejection, and each misspelt or senseless argument, is told when it is compiled.
#[test]
fn mistakes_are_told_by_the_compiler() {
    trybuild::TestCases::new().compile_fail("tests/messages/*.rs");
}
