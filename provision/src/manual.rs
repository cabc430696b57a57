//! Shell completions and manual pages, from the same definition as the command line itself.

use crate::error::Result;
use crate::output::Output;
use crate::transport::{Local, Transport, file_error};
use clap::Command;
use std::path::Path;

/// Says the completions of a command for a shell.
pub fn completions(mut command: Command, shell: clap_complete::Shell, output: &Output) {
    let name = command.get_name().to_string();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    output.result(&serde_json::json!({"script": script}), &script);
}

/// Writes a page for a command and for each of its own, and says which.
///
/// # Errors
/// The directory cannot be written.
pub async fn pages(mut command: Command, directory: &Path, output: &Output) -> Result<()> {
    command.build();
    // The mode of one that is there is its owner's business.
    if Local.resolve(directory).await?.is_none() {
        Local.make_directory(directory, 0o755).await?;
    }
    let mut written = Vec::new();
    let mut left = vec![command];
    while let Some(command) = left.pop() {
        let page = clap_mangen::Man::new(command.clone());
        let path = directory.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text).map_err(file_error("cannot write", &path))?;
        Local.write(&path, &text, 0o644).await?;
        written.push(path);
        let own = command.get_subcommands().filter(|own| !own.is_hide_set() && own.get_name() != "help");
        left.extend(own.cloned());
    }
    written.sort();
    let text: String = written.iter().map(|path| format!("{}\n", path.display())).collect();
    output.result(&written, &text);
    Ok(())
}
