//! What the demo prints: text, or one JSON object a line.

use crate::failure::Result;
use crate::output::Output;
use serde::Serialize;

/// Prints the steps.
#[derive(Clone, Copy)]
pub(super) struct Narrator(pub(super) Output);

#[derive(Serialize)]
struct DemoLine<'a> {
    kind: &'a str,
    text: &'a str,
}

impl Narrator {
    pub(super) fn plain(self, text: impl AsRef<str>) -> Result<()> {
        self.say("plain", "", text.as_ref())
    }

    pub(super) fn step(self, text: impl AsRef<str>) -> Result<()> {
        self.say("step", "\n", text.as_ref())
    }

    pub(super) fn detail(self, text: impl AsRef<str>) -> Result<()> {
        self.say("detail", "  ", text.as_ref())
    }

    pub(super) fn done(self, text: impl AsRef<str>) -> Result<()> {
        self.say("done", "  ✓ ", text.as_ref())
    }

    fn say(self, kind: &str, before: &str, text: &str) -> Result<()> {
        self.0
            .result(&DemoLine { kind, text }, || format!("{before}{text}"))
    }

    pub(super) fn end(self) -> Result<()> {
        let me = std::env::args()
            .next()
            .unwrap_or_else(|| "postrider".into());
        self.step(
            "The demo is over and its temporary folder removed. Try it yourself, in this order:",
        )?;
        for (command, comment) in [
            (
                "hook add --url http://127.0.0.1:9000 --event 'order.*'",
                "prints a secret",
            ),
            (
                "listen --secret whsec_…",
                "with that secret, in a second terminal",
            ),
            ("serve", "in a third"),
            ("event send --type order.paid --payload '{\"order\":1}'", ""),
            ("delivery list", ""),
        ] {
            let allow = match command {
                "serve" => "POSTRIDER_WORKER__ALLOW_ADDRESSES=127.0.0.0/8 ",
                _ => "",
            };
            let comment = match comment {
                "" => String::new(),
                text => format!("    # {text}"),
            };
            self.detail(format!("{allow}{me} {command}{comment}"))?;
        }
        Ok(())
    }
}
