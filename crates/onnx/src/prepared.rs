//! Prepared graphs: optimised once for this processor, with weights in the layout of the kernels, in files that all processes map. Loading one
//! takes a quarter of the time, and its weights take no private memory.
//!
//! ONNX Runtime writes the optimised graph and one file of weights, including prepacked ones. They are valid only for its version and this
//! processor, so the folder's name contains both.
//!
//! This is done in a separate process (`prepare/`), which also runs the graph on trial inputs: a graph that crashes ONNX Runtime or needs more
//! memory than the machine has ends that process, not the caller's. On CUDA the original graph is used, after a trial run in a separate process
//! ([`try_on_cuda`]).

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use runtime::error::{Error, Result};
use runtime::progress::Progress;
use runtime::sealed;
use runtime::sealed::failed;

/// Prefix of the names of folders with a prepared graph.
const PREFIX: &str = "prepared-";

/// Names of the files that `prepare/` writes.
const GRAPH: &str = "model.onnx";

/// Memory and disk space that preparing a graph may take, in addition to a multiple of its size.
const FREE_BYTES: u64 = 1 << 30;
const BYTES_PER_BYTE: u64 = 8;

/// An empty file that records a successful trial run on CUDA.
const TRIED: &str = "tried";
/// Exit status of `prepare/` if CUDA is not available.
const NO_CUDA: i32 = 2;
/// Environment variables that CUDA uses to find its libraries and devices.
const CUDA_VARIABLES: [&str; 5] = ["LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_PATH", "PATH"];

const MAX_WAIT: Duration = Duration::from_millis(5);

/// Paths of the program that prepares graphs, and of the library that it loads.
pub struct Tools<'a> {
    pub preparer: &'a Path,
    pub library: &'a Path,
}

/// The folder with the graph prepared from `source`. It is stored beside `source`.
pub fn folder(model: &str, source: &Path, tools: &Tools, progress: &dyn Progress) -> Result<PathBuf> {
    let folder = source.with_file_name(key(tools.library));
    sealed::ensure(&folder, None, progress, |aside| prepare(model, source, aside, tools, progress))?;
    Ok(folder)
}

/// The path of the graph in a folder of [`folder`].
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
        Outcome::Crashed(signal) => Err(ended(model, signal, "")),
    }
}

/// Runs `source` on the CUDA device `device` in a separate process, unless that has been done before. `Error::CudaMissing` if CUDA is not
/// available; `Error::RefusedOnnx` if the graph crashes ONNX Runtime.
pub fn try_on_cuda(model: &str, source: &Path, device: i32, tools: &Tools, progress: &dyn Progress) -> Result<()> {
    let folder = source.with_file_name(format!("{}-cuda{device}", key(tools.library)));
    sealed::ensure(&folder, None, progress, |aside| {
        let mut command = command(source, aside, tools);
        command.arg(device.to_string()).arg(limit(source)?.to_string()).arg("cuda");
        command.envs(CUDA_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        let (status, reason) = wait(&mut command, aside, progress, tools.preparer)?;
        match (status.code(), status.signal()) {
            (Some(0), _) => {
                let tried = aside.join(TRIED);
                fs::write(&tried, []).map_err(failed("write", &tried))
            }
            (Some(NO_CUDA), _) => Err(Error::CudaMissing(reason)),
            (_, None) => Err(Error::ModelRun { model: model.to_owned(), reason: format!("on CUDA: {reason}") }),
            (_, Some(signal)) => Err(ended(model, signal, " on CUDA")),
        }
    })?;
    Ok(())
}

enum Outcome {
    Prepared,
    /// The signal that ended the process.
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
    let mut command = command(source, target, tools);
    command.arg(target.join(GRAPH)).arg(limit(source)?.to_string()).arg(if prepack { "prepack" } else { "plain" });
    let (status, reason) = wait(&mut command, target, progress, tools.preparer)?;
    if status.success() {
        return Ok(Outcome::Prepared);
    }
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    if free_space(target).is_some_and(|free| free < size(source).unwrap_or(0)) {
        return Err(failed("write", &target.join(GRAPH))(full));
    }
    match status.signal() {
        None => Err(Error::ModelRun { model: model.to_owned(), reason }),
        Some(signal @ (libc::SIGXCPU | libc::SIGKILL)) => Err(ended(model, signal, "")),
        Some(signal) => Ok(Outcome::Crashed(signal)),
    }
}

/// The error for a process that was ended by a signal. `place` is where the graph ran.
fn ended(model: &str, signal: i32, place: &str) -> Error {
    match signal {
        libc::SIGXCPU => Error::RefusedOnnx {
            reason: format!("trial run{place} did not finish"),
            hint: "Check the model for an endless loop.".into(),
        },
        libc::SIGKILL => Error::Resources(format!("process preparing model \"{model}\"{place} was killed")),
        signal => Error::RefusedOnnx {
            reason: format!("ONNX Runtime crashed{place} (signal {signal})"),
            hint: "Check the file with onnx.checker and onnxruntime, and export it again.".into(),
        },
    }
}

fn size(source: &Path) -> Result<u64> {
    Ok(fs::metadata(source).map_err(failed("read", source))?.len())
}

/// Bytes of memory that the process may use.
fn limit(source: &Path) -> Result<u64> {
    Ok(FREE_BYTES.saturating_add(size(source)?.saturating_mul(BYTES_PER_BYTE)))
}

/// The program with its first two arguments. Its working directory is `target`.
fn command(source: &Path, target: &Path, tools: &Tools) -> Command {
    let mut command = Command::new(tools.preparer);
    command
        .args([tools.library, source])
        .env_clear()
        // PostgreSQL signals a backend's whole process group: a cancel request is to be seen here, not there.
        .process_group(0)
        .current_dir(target)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Runs the program to its end, or kills it on a cancel request. Returns its exit status and its messages, which go through a temporary file in
/// `target`.
fn wait(command: &mut Command, target: &Path, progress: &dyn Progress, program: &Path) -> Result<(ExitStatus, String)> {
    struct Killed(Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            // A child that has ended cannot be killed, and has been waited for.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let said = target.join("said");
    command.stderr(File::create(&said).map_err(failed("create", &said))?);
    let mut child = Killed(command.spawn().map_err(failed("run", program))?);
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.0.try_wait().map_err(failed("wait for", program))? {
            break status;
        }
        progress.check()?;
        std::thread::sleep((started.elapsed() / 16).clamp(Duration::from_micros(200), MAX_WAIT));
    };
    progress.check()?;
    let reason = String::from_utf8_lossy(&fs::read(&said).map_err(failed("read", &said))?).trim().to_owned();
    fs::remove_file(&said).map_err(failed("remove", &said))?;
    Ok((status, reason))
}

fn free_space(folder: &Path) -> Option<u64> {
    let path = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: the path is a C string and the result plain data, which is read only where the call filled it.
    unsafe {
        let mut space: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut space) == 0).then(|| space.f_bavail * space.f_frsize)
    }
}

/// Whether this is the name of a folder with a prepared graph.
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use runtime::progress::Unwatched;

    /// A program that is written while another test starts one cannot be run: the other has it open for writing for a moment.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// A preparer that counts its calls and then does as `body` says.
    fn with_preparer(body: &str, test: impl Fn(&Path, &Tools)) {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = std::env::temp_dir().join(format!("pg_reco-{}-{:x}", std::process::id(), body.len()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let (preparer, source) = (folder.join("preparer"), folder.join(GRAPH));
        let calls = folder.join("calls");
        fs::write(&preparer, format!("#!/bin/sh\necho \"$3 $5\" >>{}\n{body}\n", calls.display())).unwrap();
        fs::set_permissions(&preparer, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&source, b"a graph").unwrap();
        test(&source, &Tools { preparer: &preparer, library: Path::new("/none") });
        fs::remove_dir_all(&folder).unwrap();
    }

    fn calls(source: &Path) -> String {
        fs::read_to_string(source.with_file_name("calls")).unwrap()
    }

    #[test]
    fn a_graph_is_tried_on_each_cuda_device_once() {
        with_preparer("exit 0", |source, tools| {
            for device in [0, 0, 1, 0] {
                try_on_cuda("m", source, device, tools, &Unwatched).unwrap();
            }
            assert_eq!(calls(source), "0 cuda\n1 cuda\n");
        });
    }

    #[test]
    fn a_graph_that_crashes_on_cuda_is_refused_each_time_it_is_tried() {
        with_preparer("kill -SEGV $$", |source, tools| {
            for _ in 0..2 {
                let refused = try_on_cuda("m", source, 0, tools, &Unwatched).unwrap_err();
                assert!(
                    matches!(&refused, Error::RefusedOnnx { reason, .. } if reason.contains("on CUDA (signal 11)"))
                );
            }
            assert_eq!(calls(source).lines().count(), 2);
        });
    }

    #[test]
    fn a_missing_cuda_is_told_from_a_graph_that_fails() {
        with_preparer("echo no device >&2; exit 2", |source, tools| {
            let missing = try_on_cuda("m", source, 0, tools, &Unwatched).unwrap_err();
            assert!(matches!(missing, Error::CudaMissing(reason) if reason == "no device"));
        });
        with_preparer("echo bad node >&2; exit 1", |source, tools| {
            let failed = try_on_cuda("m", source, 0, tools, &Unwatched).unwrap_err();
            assert!(matches!(failed, Error::ModelRun { reason, .. } if reason == "on CUDA: bad node"));
        });
    }
}
