//! The flags of `hook add` and `hook change` that set a hook's pace and its patience.

use clap::Args;
use postrider_core::{OnFailure, Ordered, Rate, SettingsChange, Span};
use std::fmt::Display;
use std::str::FromStr;

/// What limits a hook. Each takes `none` for what the configuration says.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Limits (`none` follows the configuration again)")]
pub struct LimitFlags {
    /// Requests in flight at most, over all workers
    #[arg(long, value_name = "N", value_parser = Own::count)]
    in_flight: Option<Own<u32>>,
    /// Requests in a second, a minute or an hour at most, over all workers: 20/s, 300/m, 1000/h
    #[arg(long, value_name = "RATE", value_parser = Own::<Rate>::parse)]
    rate: Option<Own<Rate>>,
    /// Events of one ordering key one after another, as they were inserted; `off` for any order
    #[arg(long, value_name = "BY", value_parser = Ordering::parse)]
    ordered: Option<Ordering>,
    /// With --ordered: once an event has failed for good, `hold` those of its key behind it until
    /// it was sent again and taken, or discarded (as without this); or `skip` it
    #[arg(long, value_name = "hold|skip", value_parser = after_failure)]
    on_failure: Option<OnFailure>,
    /// Back it off as a whole from so many failures in a row
    #[arg(long, value_name = "N", value_parser = Own::count)]
    back_off_after: Option<Own<u32>>,
    /// Disable it at so many failures in a row …
    #[arg(long, value_name = "N", value_parser = Own::count)]
    disable_after_failures: Option<Own<u32>>,
    /// … that span at least this time
    #[arg(long, value_name = "DURATION", value_parser = Own::<Span>::parse)]
    disable_after: Option<Own<Span>>,
}

impl From<LimitFlags> for SettingsChange {
    fn from(flags: LimitFlags) -> Self {
        Self {
            in_flight: flags.in_flight.map(|own| own.0),
            rate: flags.rate.map(|own| own.0),
            ordered: flags.ordered.map(|ordering| ordering.0),
            on_failure: flags.on_failure.map(Some),
            back_off_after: flags.back_off_after.map(|own| own.0),
            disable_after_failures: flags.disable_after_failures.map(|own| own.0),
            disable_after: flags.disable_after.map(|own| own.0),
            ..Self::default()
        }
    }
}

/// A value of the hook's own, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Own<T>(Option<T>);

impl<T: FromStr<Err: Display>> Own<T> {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => text
                .parse()
                .map(|value| Self(Some(value)))
                .map_err(|error: T::Err| error.to_string()),
        }
    }
}

impl Own<u32> {
    fn count(text: &str) -> Result<Self, String> {
        match Self::parse(text) {
            Ok(Self(Some(0))) | Err(_) => Err("write a number from 1 on, or none".into()),
            own => own,
        }
    }
}

/// An order, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ordering(Option<Ordered>);

impl Ordering {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "key" => Ok(Self(Some(Ordered::Key))),
            "off" => Ok(Self(None)),
            _ => Err("write key, or off".into()),
        }
    }
}

fn after_failure(text: &str) -> Result<OnFailure, String> {
    [OnFailure::Hold, OnFailure::Skip]
        .into_iter()
        .find(|choice| choice.name() == text)
        .ok_or_else(|| "write hold or skip".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_value_or_none() {
        assert_eq!(Own::count("8"), Ok(Own(Some(8))));
        assert_eq!(Own::count("none"), Ok(Own(None)));
        assert!(Own::count("0").is_err() && Own::count("many").is_err());
        assert_eq!(Own::parse("20/s"), Ok(Own("20/s".parse::<Rate>().ok())));
        assert!(Own::<Rate>::parse("20").unwrap_err().contains("\"20/s\""));
    }

    #[test]
    fn an_order_is_by_key_or_off() {
        assert_eq!(Ordering::parse("key"), Ok(Ordering(Some(Ordered::Key))));
        assert_eq!(Ordering::parse("off"), Ok(Ordering(None)));
        assert!(Ordering::parse("seq").is_err());
        assert_eq!(after_failure("hold"), Ok(OnFailure::Hold));
        assert_eq!(after_failure("skip"), Ok(OnFailure::Skip));
        assert!(after_failure("wait").is_err());
    }
}
