//! Runs on CUDA whose inputs and outputs lie in pinned memory: the device copies them itself, while other runs compute.

use std::fmt::Debug;

use ndarray::ArrayD;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, NoSelectedOutputs, RunOptions, Session};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor as OrtTensor};

use crate::tensor::Tensor;

/// Pinned memory of a session.
pub struct Pinned {
    allocator: Allocator,
    outputs: MemoryInfo<'static>,
}

impl Pinned {
    /// `None` where ONNX Runtime has none for this session: its runs then copy through memory of its own.
    pub fn of(session: &Session, device: i32) -> Option<Self> {
        let memory = |kind| MemoryInfo::new(AllocationDevice::CUDA_PINNED, device, AllocatorType::Device, kind);
        let allocator = Allocator::new(session, memory(MemoryType::CPUInput).ok()?).ok()?;
        Some(Self { allocator, outputs: memory(MemoryType::CPUOutput).ok()? })
    }

    /// Whether `inputs` can lie there: texts cannot.
    pub fn takes(inputs: &[(&str, Tensor)]) -> bool {
        !inputs.iter().any(|(_, tensor)| matches!(tensor, Tensor::Text(_)))
    }

    /// Runs the graph and passes the outputs in `wanted` to `read`.
    pub fn run(
        &self,
        session: &mut Session,
        inputs: &[(&str, Tensor)],
        wanted: &[&str],
        options: &RunOptions<NoSelectedOutputs>,
        read: impl Fn(&DynValue) -> std::result::Result<Tensor, String>,
    ) -> std::result::Result<Vec<Tensor>, String> {
        let mut binding = session.create_binding().map_err(|e| e.to_string())?;
        for (name, tensor) in inputs {
            self.bind(&mut binding, name, tensor).map_err(|e| e.to_string())?;
        }
        for &output in wanted {
            binding.bind_output_to_device(output, &self.outputs).map_err(|e| e.to_string())?;
        }
        let outputs = session.run_binding_with_options(&binding, options).map_err(|e| e.to_string())?;
        let output = |&name: &&str| read(outputs.get(name).ok_or_else(|| format!("output \"{name}\" is missing"))?);
        wanted.iter().map(output).collect()
    }

    fn bind(&self, binding: &mut IoBinding, name: &str, tensor: &Tensor) -> ort::Result<()> {
        match tensor {
            Tensor::F32(array) => binding.bind_input(name, &self.copy(array)?),
            Tensor::F64(array) => binding.bind_input(name, &self.copy(array)?),
            Tensor::I32(array) => binding.bind_input(name, &self.copy(array)?),
            Tensor::I64(array) => binding.bind_input(name, &self.copy(array)?),
            Tensor::Bool(array) => binding.bind_input(name, &self.copy(array)?),
            Tensor::Text(_) => Err(ort::Error::new("texts cannot be copied to the device")),
        }
    }

    fn copy<T: PrimitiveTensorElementType + Clone + Debug + 'static>(
        &self,
        array: &ArrayD<T>,
    ) -> ort::Result<OrtTensor<T>> {
        let mut tensor = OrtTensor::<T>::new(&self.allocator, array.shape().to_vec())?;
        tensor.extract_array_mut().assign(array);
        Ok(tensor)
    }
}
