//! `throttlescope demo`: the whole of it on this machine alone.

use std::{
    net::SocketAddr,
    process::{self, ExitCode},
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    demo::{self, Stage},
};

/// Shows in two minutes what the daemon does, with an emulated throttler; nothing leaves this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the status page is
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:10474")]
    listen: SocketAddr,
    /// End after the story instead of leaving the page open
    #[arg(long)]
    once: bool,
}

impl Args {
    /// Runs until the story is told and Ctrl-C.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let missed = runtime.block_on(self.show())?;
        runtime.shutdown_background();
        Ok(ExitCode::from(if missed { super::EXIT_ERROR } else { super::EXIT_CLEAR }))
    }

    async fn show(self) -> anyhow::Result<bool> {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stopper = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stopper.cancel();
        });
        let folder = std::env::temp_dir().join(format!("throttlescope-demo-{}", process::id()));
        let began = clock::now();
        let mut missed = false;
        let once = self.once;
        let tell = |stage: &Stage| {
            missed |= *stage == Stage::Missed;
            let seconds = began.elapsed().as_secs();
            println!("{:>3} s  {}", seconds, sentence(stage, once));
        };
        demo::run(self.listen, &folder, once, stop, tell).await?;
        Ok(missed)
    }
}

fn sentence(stage: &Stage, once: bool) -> String {
    match stage {
        Stage::Page(address) => format!(
            "Emulation: server and throttler are parts of this program, nothing leaves this machine.\n       \
             Open http://{address}/ and watch. It takes about two minutes."
        ),
        Stage::Normal => {
            format!("Both names are normal. Soon the emulated throttler slows {} down.", demo::SLOWED)
        }
        Stage::Onset => {
            "ONSET: the emulated throttler is on, at 130 kbit/s after 16 KB as in March 2021.".to_owned()
        }
        Stage::Found(verdict) => {
            format!("FOUND: {} is {verdict}; an incident is open. See its page.", demo::SLOWED)
        }
        Stage::Lift => "LIFT: the emulated throttler is off.".to_owned(),
        Stage::Over if once => "OVER: the incident has ended.".to_owned(),
        Stage::Over => "OVER: the incident has ended. The page stays open; Ctrl-C ends.".to_owned(),
        Stage::Missed => {
            "This was not seen within two minutes: is this machine very busy? The story goes on.".to_owned()
        }
    }
}
