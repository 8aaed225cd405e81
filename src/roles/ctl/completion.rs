//! `completion`: scripts that teach a shell our commands.

use clap::Command;
use clap_complete::{Shell, generate};

/// The script for `shell`, from the definition of the whole command line.
pub fn script(shell: Shell, mut whole: Command) -> Vec<u8> {
    let name = whole.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut whole, name.clone(), &mut script);
    if shell == Shell::Bash { relabelled(&script, &name).into_bytes() } else { script }
}

/// In scripts for bash, clap_complete spells a hyphen in the binary's name in
/// one way where it notes which command is being typed and in another where it
/// looks that note up, so that nothing is found (clap-rs/clap#6421). This is the
/// same script with one spelling; it changes nothing once that is repaired.
fn relabelled(script: &[u8], name: &str) -> String {
    let (noted, looked_up) = (name.replace('-', "__"), name.replace('-', "__subcmd__"));
    String::from_utf8_lossy(script).replace(&looked_up, &noted)
}
