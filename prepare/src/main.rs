//! Prepares an ONNX graph for this processor in a separate process:
//!
//!     pg_reco_prepare LIBRARY SOURCE TARGET LIMIT prepack|plain
//!     pg_reco_prepare LIBRARY SOURCE DEVICE LIMIT cuda
//!
//! The program loads ONNX Runtime from LIBRARY. It optimises the graph SOURCE, writes it to TARGET and its weights, prepacked or not, to a file
//! `weights` beside it, then loads the result and runs it on trial inputs. With `cuda` it loads and runs SOURCE on the CUDA device DEVICE and
//! writes nothing.
//!
//! Exit status: 0 for success, 1 for an error (message on stderr), 2 if CUDA is not available. A signal means that the graph crashes ONNX
//! Runtime. LIMIT is the maximum memory and file size in bytes. The process is the first one that the kernel kills when memory runs out.

use std::borrow::Cow;
use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{Tensor, TensorElementType, ValueType};

const WEIGHTS: &str = "weights";

/// Minimum size in bytes of weights that are moved out of the graph.
const MIN_SHARED_SIZE: &str = "1024";

/// Maximum CPU time in seconds; a graph that takes longer is considered endless.
const MAX_SECONDS: libc::rlim_t = 300;

/// Maximum number of elements of a trial input.
const MAX_ELEMENTS: usize = 1 << 24;

/// Lengths of open dimensions and values of the elements, for each trial run.
const TRIALS: [(usize, u8); 3] = [(1, 0), (2, 1), (0, 0)];

/// Exit status if CUDA is not available.
const NO_CUDA: u8 = 2;

/// Parts of ONNX Runtime's messages on lack of memory.
const OUT_OF_MEMORY: [&str; 3] = ["bad_alloc", "bad allocation", "Failed to allocate"];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [library, source, target, limit, mode] = arguments.as_slice() else {
        eprintln!("usage: pg_reco_prepare LIBRARY SOURCE TARGET|DEVICE LIMIT prepack|plain|cuda");
        return ExitCode::FAILURE;
    };
    // Bindings panic on invalid data such as a dimension of -2: only the message is shown.
    std::panic::set_hook(Box::new(|panic| eprintln!("{}", panic.payload_as_str().unwrap_or("unknown error"))));
    let (library, source, limit) = (Path::new(library), Path::new(source), limit.to_string_lossy());
    let outcome = match mode.as_encoded_bytes() {
        b"cuda" => on_cuda(library, source, &target.to_string_lossy(), &limit),
        mode => run(library, source, Path::new(target), &limit, mode == b"prepack").map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NO_CUDA),
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn start(library: &Path) -> Result<Environment> {
    // Microsoft's builds keep a database of what they were used for, and a thread that uploads it.
    // SAFETY: this is the process's only thread.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    Ok(ort::init_from(library)?.with_name("pg_reco").with_telemetry(false).build()?)
}

fn run(library: &Path, source: &Path, target: &Path, limit: &str, prepack: bool) -> Result<()> {
    confine(limit.parse()?, true)?;
    let environment = start(library)?;
    let mut builder = builder(&environment)?.with_optimized_model_path(target).map_err(ort::Error::<()>::from)?;
    for (key, value) in [
        ("session.optimized_model_external_initializers_file_name", WEIGHTS),
        ("session.optimized_model_external_initializers_min_size_in_bytes", MIN_SHARED_SIZE),
        ("session.save_external_prepacked_constant_initializers", if prepack { "1" } else { "0" }),
    ] {
        builder = builder.with_config_entry(key, value).map_err(ort::Error::<()>::from)?;
    }
    drop(builder.commit_from_file(source)?);
    let builder = self::builder(&environment)?.with_optimization_level(GraphOptimizationLevel::Disable);
    try_out(builder.map_err(ort::Error::<()>::from)?.commit_from_file(target)?)
}

/// Runs the graph on CUDA. Returns false, with a message on stderr, if CUDA is not available.
fn on_cuda(library: &Path, source: &Path, device: &str, limit: &str) -> Result<bool> {
    confine(limit.parse()?, false)?;
    let environment = start(library)?;
    let mut builder = builder(&environment)?;
    if let Err(missing) = CUDA::default().with_device_id(device.parse()?).register(&mut builder) {
        eprintln!("{missing}");
        return Ok(false);
    }
    try_out(builder.commit_from_file(source)?)?;
    Ok(true)
}

/// A builder with one thread: the result does not depend on the number of threads.
fn builder(environment: &Environment) -> Result<SessionBuilder> {
    let builder = Session::builder(environment)?.with_intra_threads(1).map_err(ort::Error::<()>::from)?;
    Ok(builder.with_log_level(ort::logging::LogLevel::Fatal).map_err(ort::Error::<()>::from)?)
}

/// Runs the graph on trial inputs. It may return an error; only a crash or lack of memory matters.
fn try_out(mut session: Session) -> Result<()> {
    for (length, fill) in TRIALS {
        let inputs: Option<Vec<(Cow<str>, SessionInputValue)>> = session
            .inputs()
            .iter()
            .map(|input| Some((Cow::from(input.name().to_owned()), made_up(input.dtype(), length, fill)?)))
            .collect();
        let Some(inputs) = inputs else { return Ok(()) };
        if let Err(refused) = session.run(inputs)
            && OUT_OF_MEMORY.iter().any(|said| refused.message().contains(said))
        {
            return Err(format!("out of memory: {}", refused.message()).into());
        }
    }
    Ok(())
}

/// A tensor for an input, with `length` for open dimensions and all elements `fill`.
fn made_up(input: &ValueType, length: usize, fill: u8) -> Option<SessionInputValue<'static>> {
    let ValueType::Tensor { ty, shape, .. } = input else { return None };
    let shape: Vec<usize> = shape.iter().map(|&d| usize::try_from(d).unwrap_or(length)).collect();
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_ELEMENTS)?;
    macro_rules! of {
        ($t:ty) => {
            Tensor::<$t>::from_array((shape, vec![<$t>::from(fill); elements])).ok()?.into()
        };
    }
    Some(match ty {
        TensorElementType::Float32 => of!(f32),
        TensorElementType::Float64 => of!(f64),
        TensorElementType::Int16 => of!(i16),
        TensorElementType::Int32 => of!(i32),
        TensorElementType::Int64 => of!(i64),
        TensorElementType::Uint8 => of!(u8),
        TensorElementType::Uint16 => of!(u16),
        TensorElementType::Uint32 => of!(u32),
        TensorElementType::Uint64 => of!(u64),
        TensorElementType::Int8 => Tensor::from_array((shape, vec![fill.cast_signed(); elements])).ok()?.into(),
        TensorElementType::Bool => Tensor::from_array((shape, vec![fill != 0; elements])).ok()?.into(),
        TensorElementType::String => {
            Tensor::from_string_array((shape, vec![String::new(); elements].as_slice())).ok()?.into()
        }
        _ => return None,
    })
}

/// Limits the effect of this process on others: memory, disk, open files, and lifetime after its parent.
///
/// CUDA maps far more memory than it uses, so memory is not limited there.
fn confine(limit: u64, memory: bool) -> Result<()> {
    // SAFETY: system calls on this process itself with plain arguments, before any thread is started.
    unsafe {
        // The connection to the client is the parent's alone.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // A write beyond the limit is then an error and not the end.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        for (resource, most) in [
            (libc::RLIMIT_DATA, if memory { limit } else { libc::RLIM_INFINITY }),
            (libc::RLIMIT_FSIZE, limit),
            (libc::RLIMIT_CPU, MAX_SECONDS),
            (libc::RLIMIT_CORE, 0),
        ] {
            // What is beyond the first is a signal that says why, where there is one; beyond the second the end.
            let wanted =
                libc::rlimit { rlim_cur: most, rlim_max: most + libc::rlim_t::from(resource == libc::RLIMIT_CPU) };
            if libc::setrlimit(resource, &wanted) != 0 {
                let mut found = std::mem::zeroed();
                libc::getrlimit(resource, &mut found);
                // A lower limit than this that was set from outside stays.
                if found.rlim_max > most {
                    return Err(std::io::Error::last_os_error().into());
                }
            }
        }
    }
    // Where there is no such file, nothing chooses by it.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}
