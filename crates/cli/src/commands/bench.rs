//! `postrider bench`: gives the benchmark this program to measure, and reports how it ended.

use crate::cli::Globals;
use crate::failure::{Misuse, Result, Silent, sentence};
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
