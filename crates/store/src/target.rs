//! Kept targets: the sealed target of the first attempt, to which retries of some profiles go.

use crate::settlement::DeliverySettlement;
use postrider_core::{DeliveryId, HookId, HookTarget, KeyRing, SealError};
use std::sync::Arc;

/// The purpose with which targets are sealed, for the id of the hook.
pub(crate) const PURPOSE: &str = "target";

/// The deliveries of these settlements whose target must be kept, each with its sealed target.
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

/// Opens the kept target of a delivery to `hook`; `None` when it has none.
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

/// Logs once for all of them that deliveries wait because their target cannot be opened.
pub(crate) fn warn_of_sealed<'a>(mut sealed: impl Iterator<Item = (DeliveryId, &'a SealError)>) {
    if let Some((first, error)) = sealed.next() {
        let count = 1 + sealed.count();
        tracing::error!(
            delivery.id = %first,
            deliveries = count,
            "Cannot open the targets of {count} deliveries, such as {first}; they wait: {error}"
        );
    }
}
