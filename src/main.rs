//! The `throttlescope` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    throttlescope::cli::main()
}
