//! Completions and man pages, generated from the description of the command line.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_mangen::roff::{Roff, roman};

use crate::output;

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay completions bash > ~/.local/share/bash-completion/completions/backstay
  backstay completions zsh > ~/.zfunc/_backstay
  backstay completions fish > ~/.config/fish/completions/backstay.fish")]
pub(crate) struct CompletionsArguments {
    /// Shell to complete for
    shell: clap_complete::Shell,
}

/// Write the man pages into a folder, one for each command
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay man ~/.local/share/man/man1 && man backstay-run")]
pub(crate) struct ManArguments {
    /// Folder for the pages; created if missing
    folder: PathBuf,
}

pub(crate) fn completions(arguments: &CompletionsArguments, mut command: Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "backstay", &mut script);
    output::text(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

pub(crate) fn man(arguments: &ManArguments, command: Command) -> ExitCode {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    match std::fs::create_dir_all(&arguments.folder).and_then(|()| write(&command, &arguments.folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("error: {}: {error}", arguments.folder.display()));
            ExitCode::FAILURE
        }
    }
}

/// Writes the man page of a command, and those of all its subcommands.
fn write(command: &Command, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    std::fs::write(folder.join(format!("{name}.1")), page(command)?)?;
    command.get_subcommands().filter(|command| !command.is_hide_set()).try_for_each(|command| write(command, folder))
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = clap_mangen::Man::new(command.clone())
        .source(concat!("backstay ", env!("CARGO_PKG_VERSION")))
        .manual("Backstay");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    // No hyphenation and no justified lines, so that a search finds names.
    page.extend_from_slice(b".nh\n.ad l\n");
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(help) = command.get_after_help() {
        sections(&help.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// Converts the sections at the end of a help text. A line that ends with a colon and is not indented is a heading.
/// Indented lines keep their layout.
fn sections(help: &str) -> Roff {
    let mut roff = Roff::new();
    let mut is_literal = false;
    for line in help.lines() {
        let heading = line.strip_suffix(':').filter(|heading| !heading.starts_with(' '));
        let indented = line.starts_with(' ');
        if is_literal && !indented {
            roff.control("fi", []);
        }
        if !is_literal && indented {
            roff.control("nf", []);
        }
        is_literal = indented;
        match heading {
            Some("Exit codes") => roff.control("SH", ["EXIT STATUS"]),
            Some(heading) => roff.control("SH", [heading.to_uppercase().as_str()]),
            None if line.is_empty() => roff.control("PP", []),
            None => roff.text([roman(line)]),
        };
    }
    if is_literal {
        roff.control("fi", []);
    }
    roff
}
