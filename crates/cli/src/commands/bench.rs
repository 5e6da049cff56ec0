//! `postrider bench`: passes this program to the benchmark, and reports how it ended.

use crate::failure::{Misuse, Result, Silent, sentence};
use crate::globals::Globals;
use postrider_bench::{Bench, Completion, Host, Unusable};

/// Runs the command.
pub async fn run(bench: Bench, globals: &Globals) -> Result<()> {
    let host = Host {
        program: std::env::current_exe()?,
        database: globals.database.clone(),
        json: globals.json,
        describe: sentence,
    };
    match bench.run(&host).await {
        Ok(Completion::Complete) => Ok(()),
        Ok(Completion::Partial) => Err(Silent.into()),
        Err(error) => Err(match error.downcast::<Unusable>() {
            Ok(unusable) => Misuse::new(unusable.to_string()),
            Err(error) => error,
        }),
    }
}
