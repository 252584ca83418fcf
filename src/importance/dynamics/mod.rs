use super::{Method, Task};
use crate::error::{Error, Result};
use crate::options::Options;

pub fn score(_methods: &[Method], _task: &Task, _options: &mut Options) -> Result<Vec<Vec<f64>>> {
    Err(Error::Internal("dynamics is not there".into()))
}
