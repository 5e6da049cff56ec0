//! Why a name gave no address.

use super::message::ResponseCode;
use crate::local_fault::LocalFault;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// A name gave no address.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NameError {
    /// The name servers know that it does not exist.
    #[error("the name does not exist")]
    Unknown,
    /// It exists without an address.
    #[error("the name has no address")]
    NoAddress,
    /// Every name server failed to answer for it, this one with this code.
    #[error("the name servers of the name do not answer: {0}")]
    Failed(ResponseCode),
    /// No answer came in time.
    #[error("no answer came for the name in time")]
    Silent,
    /// No name server could be asked, which no name can cause. The error is not a source, because
    /// it says nothing about the receiver.
    #[error("no name server could be asked: {0}")]
    NotAsked(Arc<io::Error>),
}

impl NameError {
    /// Whether a name server answered: what is wrong is the name.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Unknown | Self::NoAddress)
    }
}

/// A lookup that gave no address.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: NameError,
    /// When the name servers were first asked.
    pub(super) since: Instant,
}

/// A host could not be resolved.
#[derive(Debug)]
pub(crate) enum Unresolved {
    /// It is the name's fault.
    Name(NameError),
    /// It is this machine's.
    Local(LocalFault),
}
