//! `workers`: several worker processes on one database, and whether they keep apart.

use super::figures::{Figure, Measurement};
use super::options::Stage;
use super::processes::ReceiverProcess;
use super::throughput::drain;
use crate::failure::Result;
use crate::output::notice;

const EVENTS: u64 = 100_000;
const PROCESSES: [usize; 3] = [1, 2, 4];

/// Drains the same backlog with one, two and four worker processes.
pub async fn run(stage: &Stage, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let (shape, events) = (stage.shape()?, stage.events(EVENTS));
    let mut measurements = Vec::new();
    for processes in PROCESSES {
        notice(format_args!("  {}", name(processes)));
        let (rate, cost) = drain(stage, receiver, shape, events, processes).await?;
        let figure = Figure::new(name(processes), rate, "/s");
        measurements.push(Measurement {
            figures: vec![match processes {
                1 => figure,
                _ => figure.beside(name(1)),
            }],
            cost,
        });
    }
    Ok(measurements)
}

fn name(processes: usize) -> String {
    match processes {
        1 => "1 worker process".into(),
        more => format!("{more} worker processes"),
    }
}
