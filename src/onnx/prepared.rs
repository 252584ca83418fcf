//! A graph optimised once for this processor, its weights laid out as the kernels want them, in files that every process
//! maps: loading it takes a quarter of the time, and the weights take no private memory.
//!
//! ONNX Runtime writes both: the optimised graph, and beside it one file of weights, prepacked ones included. What it
//! writes holds for its own version and this processor only, so the folder's name has both.
//!
//! It does so in a process of its own (`prepare/`), which also tries the graph out: a graph that ONNX Runtime crashes on,
//! or that asks for more memory than the machine has, ends that process and not the caller's.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::sealed::{self, failed};

/// What the names of folders with a prepared graph begin with.
const PREFIX: &str = "prepared-";

/// Names that `prepare/` gives its files.
const GRAPH: &str = "model.onnx";

/// What a graph may take in memory and on disk while it is prepared, beside a multiple of its own size.
const FREE_BYTES: u64 = 1 << 30;
const BYTES_PER_BYTE: u64 = 8;

const LONGEST_WAIT: Duration = Duration::from_millis(5);

/// Where the preparing program and the library that it loads are.
pub struct Tools<'a> {
    pub preparer: &'a Path,
    pub library: &'a Path,
}

/// The folder with the graph prepared from `source`, beside which it is kept.
pub fn folder(model: &str, source: &Path, tools: &Tools, progress: &dyn Progress) -> Result<PathBuf> {
    let folder = source.with_file_name(key(tools.library));
    sealed::ensure(&folder, None, progress, |aside| prepare(model, source, aside, tools, progress))?;
    Ok(folder)
}

/// The prepared graph in a prepared folder.
pub fn graph(folder: &Path) -> PathBuf {
    folder.join(GRAPH)
}

fn prepare(model: &str, source: &Path, target: &Path, tools: &Tools, progress: &dyn Progress) -> Result<()> {
    match try_prepare(model, source, target, true, tools, progress)? {
        Outcome::Prepared => return Ok(()),
        // ONNX Runtime does not align the weights that it writes: where the bytes of those before a prepacked one are no multiple of its
        // widest register, it crashes on what it wrote itself. Such a graph packs its weights whenever it is loaded.
        Outcome::Crashed(_) => {}
    }
    for entry in fs::read_dir(target).map_err(failed("read", target))? {
        let path = entry.map_err(failed("read", target))?.path();
        fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    match try_prepare(model, source, target, false, tools, progress)? {
        Outcome::Prepared => Ok(()),
        Outcome::Crashed(signal) => Err(Error::RefusedOnnx {
            reason: format!("ONNX Runtime crashes on it (signal {signal})"),
            hint: "Check the file with onnx.checker and onnxruntime, then export it anew.".into(),
        }),
    }
}

enum Outcome {
    Prepared,
    /// By this signal.
    Crashed(i32),
}

fn try_prepare(
    model: &str,
    source: &Path,
    target: &Path,
    prepack: bool,
    tools: &Tools,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let size = fs::metadata(source).map_err(failed("read", source))?.len();
    let limit = FREE_BYTES.saturating_add(size.saturating_mul(BYTES_PER_BYTE));
    let said = target.join("said");
    let child = Command::new(tools.preparer)
        .args([tools.library, source, &target.join(GRAPH)])
        .arg(limit.to_string())
        .arg(if prepack { "prepack" } else { "plain" })
        .env_clear()
        // PostgreSQL signals a backend's whole process group: a cancel request is to be seen here, not there.
        .process_group(0)
        .current_dir(target)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&said).map_err(failed("create", &said))?)
        .spawn()
        .map_err(failed("run", tools.preparer))?;
    let status = wait(child, progress, tools.preparer)?;
    progress.check()?;
    let reason = String::from_utf8_lossy(&fs::read(&said).map_err(failed("read", &said))?).trim().to_owned();
    fs::remove_file(&said).map_err(failed("remove", &said))?;
    if status.success() {
        return Ok(Outcome::Prepared);
    }
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    if free_space(target).is_some_and(|free| free < size) {
        return Err(failed("write", &target.join(GRAPH))(full));
    }
    Err(match status.signal() {
        None => Error::ModelRun { model: model.to_owned(), reason },
        Some(libc::SIGXCPU) => Error::RefusedOnnx {
            reason: "it was tried out and did not come to an end".into(),
            hint: "Look for a loop that never ends.".into(),
        },
        Some(libc::SIGKILL) => Error::Resources(format!("preparing model \"{model}\" was killed")),
        Some(signal) => return Ok(Outcome::Crashed(signal)),
    })
}

/// Waits for the child; kills it when the caller is to stop.
fn wait(child: Child, progress: &dyn Progress, program: &Path) -> Result<ExitStatus> {
    struct Killed(Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            // A child that has ended cannot be killed, and has been waited for.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mut child = Killed(child);
    let started = Instant::now();
    loop {
        if let Some(status) = child.0.try_wait().map_err(failed("wait for", program))? {
            return Ok(status);
        }
        progress.check()?;
        std::thread::sleep((started.elapsed() / 16).clamp(Duration::from_micros(200), LONGEST_WAIT));
    }
}

fn free_space(folder: &Path) -> Option<u64> {
    let path = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: the path is a C string and the result plain data, which is read only where the call filled it.
    unsafe {
        let mut space: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut space) == 0).then(|| space.f_bavail * space.f_frsize)
    }
}

/// Whether a folder of this name holds a prepared graph.
pub fn is_prepared(name: &str) -> bool {
    name.starts_with(PREFIX) && !name.contains('.')
}

/// The name of the folder for ONNX Runtime's library and this processor's instruction sets.
pub fn key(library: &Path) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut hash = DefaultHasher::new();
    library.hash(&mut hash);
    if let Ok(file) = fs::metadata(library) {
        file.len().hash(&mut hash);
        file.modified().ok().hash(&mut hash);
    }
    std::env::consts::ARCH.hash(&mut hash);
    for line in processor.lines().take_while(|l| !l.is_empty()) {
        // x86 says "flags", Arm "Features"; the model name tells apart what those leave out.
        if ["flags", "Features", "model name", "CPU part"].iter().any(|name| line.starts_with(name)) {
            line.hash(&mut hash);
        }
    }
    format!("{PREFIX}{:016x}", hash.finish())
}
