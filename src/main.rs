//! The synhold command.

fn main() {}
