//! `workers`: several worker processes on one database, and whether they deliver anything twice.

use crate::error::Result;
use crate::figures::{Figure, Measurement};
use crate::options::Plan;
use crate::output::notice;
use crate::processes::ReceiverProcess;
use crate::throughput::drain;

const EVENTS: u64 = 100_000;
const PROCESSES: [usize; 3] = [1, 2, 4];

/// Drains equal backlogs with one, two and four worker processes.
pub async fn run(plan: &Plan, receiver: &mut ReceiverProcess) -> Result<Vec<Measurement>> {
    let (shape, events) = (plan.shape()?, plan.events(EVENTS));
    let mut measurements = Vec::new();
    for processes in PROCESSES {
        notice(format_args!("  {}", name(processes)));
        let (rate, cost) = drain(plan, receiver, shape, events, processes).await?;
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
