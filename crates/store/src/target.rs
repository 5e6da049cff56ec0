//! Where a delivery goes, if that was kept with its first attempt: sealed for its hook.

use crate::settlement::DeliverySettlement;
use postrider_core::{DeliveryId, HookId, HookTarget, KeyRing, SealError};
use std::sync::Arc;

/// What a target is sealed for, with the id of its hook.
pub(crate) const PURPOSE: &str = "target";

/// What is to be kept of these settlements: the deliveries, each with its target.
pub(crate) fn to_keep(
    keys: &KeyRing,
    settled: &[DeliverySettlement<'_>],
) -> Result<Vec<(DeliveryId, String)>, SealError> {
    let kept = settled
        .iter()
        .filter_map(|s| Some((s, s.target_to_keep()?)));
    kept.map(|(s, target)| Ok((s.delivery.id, seal(keys, s.hook(), &target)?)))
        .collect()
}

fn seal(keys: &KeyRing, hook: HookId, target: &HookTarget) -> Result<String, SealError> {
    let plain = serde_json::to_vec(target).map_err(|_| SealError::Damaged)?;
    keys.seal(PURPOSE, hook.0, &plain)
}

/// The target of a delivery to `hook`, if it has one of its own.
pub(crate) fn open(
    keys: &KeyRing,
    hook: HookId,
    sealed: Option<&str>,
) -> Result<Option<Arc<HookTarget>>, SealError> {
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    let plain = keys.open(PURPOSE, hook.0, sealed)?;
    let target = serde_json::from_slice(&plain).map_err(|_| SealError::Damaged)?;
    Ok(Some(Arc::new(target)))
}

/// Says once for all of them which deliveries wait because their target cannot be opened.
pub(crate) fn warn_of_sealed<'a>(mut sealed: impl Iterator<Item = (DeliveryId, &'a SealError)>) {
    if let Some((first, error)) = sealed.next() {
        let count = 1 + sealed.count();
        tracing::error!(
            delivery.id = %first,
            deliveries = count,
            "Cannot tell where {count} deliveries go, {first} among them; they wait: {error}"
        );
    }
}
