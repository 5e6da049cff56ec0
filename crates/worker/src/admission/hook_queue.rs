//! The deliveries of one hook that are queued, in their order.

use postrider_core::Hook;
use postrider_store::HookRequest;
use std::collections::VecDeque;
use std::sync::Arc;

/// The queue of one hook, and the size of what is in it.
#[derive(Debug, Default)]
pub(super) struct HookQueue {
    requests: VecDeque<HookRequest>,
    bytes: usize,
}

impl HookQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn len(&self) -> u32 {
        self.requests.len() as u32
    }

    /// The bytes of payload queued.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, request: HookRequest) {
        self.bytes += request.payload_bytes();
        self.requests.push_back(request);
    }

    pub(super) fn pop(&mut self) -> Option<HookRequest> {
        let request = self.requests.pop_front()?;
        self.bytes -= request.payload_bytes();
        Some(request)
    }

    /// Takes all but the first `kept` out.
    pub(super) fn take_after(&mut self, kept: u32) -> Vec<HookRequest> {
        let kept = self.requests.len().min(kept as usize);
        let taken = Vec::from(self.requests.split_off(kept));
        self.bytes -= taken.iter().map(HookRequest::payload_bytes).sum::<usize>();
        taken
    }

    /// What is queued goes to the hook as it is now.
    pub(super) fn set_hook(&mut self, hook: &Arc<Hook>) {
        for request in &mut self.requests {
            request.hook = hook.clone();
        }
    }
}
