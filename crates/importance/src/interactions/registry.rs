//! All methods of interaction importance. A new method is a file in `methods` and a line here.

use std::fmt;
use std::ops::Deref;

use super::method::InteractionMethod;
use super::methods::{Auto, GradNorm, KnnShapley, LeaveSelfOut, MeanLoss};
use runtime::error::{Error, Result};

/// A registered method.
#[derive(Clone, Copy)]
pub struct Method(&'static dyn InteractionMethod);

impl Method {
    /// In the order in which they are listed to users.
    pub const ALL: &'static [Self] =
        &[Self(&Auto), Self(&MeanLoss), Self(&GradNorm), Self(&LeaveSelfOut), Self(&KnnShapley)];

    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|method| method.name() == name).ok_or_else(|| Error::UnknownName {
            what: "method",
            name: name.into(),
            known: Self::names(|_| true),
        })
    }

    /// The names of the methods that `fits` accepts, for messages.
    pub fn names(fits: impl Fn(Self) -> bool) -> String {
        let names: Vec<&str> = Self::ALL.iter().filter(|method| fits(**method)).map(|method| method.name()).collect();
        names.join(", ")
    }
}

impl Deref for Method {
    type Target = dyn InteractionMethod;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}
