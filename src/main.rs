//! The synhold command.

use std::process::ExitCode;

fn main() -> ExitCode {
    synhold::cli::main()
}
