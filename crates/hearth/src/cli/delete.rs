//! `hearth delete`.

use std::io::IsTerminal;

use super::{Failure, Global};
use crate::client::{Client, segment};

pub async fn run(global: &Global, client: &Client, name: &str) -> Result<(), Failure> {
    if !global.yes && std::io::stdin().is_terminal() && !agreed(name)? {
        return Err(Failure::No("nothing was deleted".to_owned()));
    }
    client.delete(&format!("/2015-03-31/functions/{}", segment(name))).await?;
    eprintln!("deleted {name}");
    Ok(())
}

fn agreed(name: &str) -> Result<bool, Failure> {
    eprint!("delete {name}? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
