//! What the measurement on a machine with a GPU needs beside PostgreSQL and the extension:
//!
//!     pg_reco_kit strip MODEL SKELETON        a graph without its weights
//!     pg_reco_kit draw SKELETON MODEL SEED    a skeleton with weights of the same mean and deviation
//!     pg_reco_kit images FOLDER COUNT SEED    PNG images 0.png, 1.png …
//!     pg_reco_kit as-user UID COMMAND...      a command as a user who is not root
//!
//! A skeleton has some kilobytes where its graph has a hundred megabytes. Drawn weights make vectors that mean nothing, and take the time and
//! the memory of real ones.

mod images;
mod weights;
mod wire;

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: pg_reco_kit strip MODEL SKELETON | draw SKELETON MODEL SEED | images FOLDER COUNT SEED | as-user UID COMMAND...";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("pg_reco_kit: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[OsString]) -> Result<()> {
    let (command, rest) = arguments.split_first().ok_or(USAGE)?;
    match (command.as_encoded_bytes(), rest) {
        (b"strip", [model, skeleton]) => Ok(std::fs::write(skeleton, weights::strip(&std::fs::read(model)?)?)?),
        (b"draw", [skeleton, model, seed]) => {
            Ok(std::fs::write(model, weights::draw(&std::fs::read(skeleton)?, number(seed)?)?)?)
        }
        (b"images", [folder, count, seed]) => images::write(folder.as_ref(), number(count)?, number(seed)?),
        (b"as-user", [user, program, arguments @ ..]) => Err(become_user(number(user)?, program, arguments)),
        _ => Err(USAGE.into()),
    }
}

fn number<T: std::str::FromStr<Err: Error + 'static>>(argument: &OsString) -> Result<T> {
    let text = argument.to_string_lossy();
    text.parse().map_err(|reason| format!("{text}: {reason}").into())
}

/// Replaces this process by a program of the user and the group `user`, without root's other groups. Returns only what went wrong.
///
/// PostgreSQL refuses to run as root, and a bare system may have neither `su` nor `setpriv`.
fn become_user(user: u32, program: &OsString, arguments: &[OsString]) -> Box<dyn Error> {
    // With a user given, the standard library drops the other groups of root.
    let failed = Command::new(program).args(arguments).uid(user).gid(user).exec();
    format!("{}: {failed}", program.to_string_lossy()).into()
}
