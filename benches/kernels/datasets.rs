//! Public data sets in their authors' formats, gzipped, where they are.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The text of `file` in the folder that `RECO_DATASETS` names; `None` where it is not there.
pub fn read(file: &str) -> Option<String> {
    let path = PathBuf::from(std::env::var_os("RECO_DATASETS")?).join(file);
    if !path.exists() {
        println!("{file} is not in $RECO_DATASETS");
        return None;
    }
    // A program that every system has instead of a dependency.
    let unpacked = Command::new("gzip").arg("-dc").arg(path).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(unpacked.stdout).ok().filter(|text| !text.is_empty())
}
