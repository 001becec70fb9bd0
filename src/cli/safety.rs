//! What is said before the built-in catalogue is measured for the first time.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::bail;

use crate::config::Config;

/// The notice. `docs/safety.md` is its long form.
const NOTICE: &str = "\
Before you measure: this opens connections to social networks and messengers from your line, again and again.
Whoever watches the line sees their names and addresses, when and how often, how many bytes, and a TLS greeting that
is not a browser's. Only public pages are fetched, nothing is logged in anywhere, and results stay on this machine
unless you send them somewhere. Where asking for these names is itself a risk, do not go on. More: docs/safety.md
";

/// Makes sure that the notice was seen before anything of the built-in catalogue is contacted: by a `y` at the terminal,
/// by `--yes`, or by `[safety] acknowledged = true`.
pub fn acknowledge(config: &Config, yes: bool) -> anyhow::Result<()> {
    if !config.uses_catalog() {
        return Ok(());
    }
    acknowledge_catalog(config, yes)
}

/// The same where it is known that the catalogue is contacted, whatever the configuration measures.
pub fn acknowledge_catalog(config: &Config, yes: bool) -> anyhow::Result<()> {
    if yes || config.acknowledged {
        return Ok(());
    }
    let stdin = io::stdin();
    let terminal = stdin.is_terminal() && io::stderr().is_terminal();
    ask(terminal.then(|| stdin.lock()), &mut io::stderr().lock())
}

/// Shows the notice and asks, where there is anyone to answer.
fn ask(answer: Option<impl BufRead>, screen: &mut impl Write) -> anyhow::Result<()> {
    write!(screen, "{NOTICE}")?;
    let Some(mut answer) = answer else {
        bail!(
            "the safety notice was not acknowledged; read it, then use --yes or set `acknowledged = true` in [safety]"
        );
    };
    write!(screen, "Go on? [y/N] ")?;
    screen.flush()?;
    let mut line = String::new();
    answer.read_line(&mut line)?;
    if matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    bail!("not acknowledged, nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> (anyhow::Result<()>, String) {
        let mut screen = Vec::new();
        let result = ask(Some(text.as_bytes()), &mut screen);
        (result, String::from_utf8(screen).unwrap())
    }

    #[test]
    fn only_a_yes_goes_on() {
        let (result, screen) = answered("y\n");
        assert!(result.is_ok());
        assert!(screen.contains("Whoever watches the line"));
        for no in ["\n", "n\n", "", "maybe\n"] {
            assert!(answered(no).0.is_err(), "{no:?}");
        }
        assert!(ask(None::<&[u8]>, &mut Vec::new()).is_err(), "nobody there to ask");
    }

    #[test]
    fn what_was_acknowledged_is_not_asked_again() {
        let mut config = Config::builtin();
        assert!(acknowledge(&config, true).is_ok());
        config.acknowledged = true;
        assert!(acknowledge(&config, false).is_ok());
        config.acknowledged = false;
        config.targets.clear();
        assert!(acknowledge(&config, false).is_ok(), "nothing of the catalogue is contacted");
    }
}
