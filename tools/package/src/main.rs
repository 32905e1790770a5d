//! `cliptext-package PREFIX`: writes what a package has besides the program and the library, out of the program's own
//! command line: man pages and the completions of bash, zsh and fish, where Debian looks for them below PREFIX.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, Parser};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The program that all of it is about.
const PROGRAM: &str = "cliptext-run";

/// Write cliptext-run's man pages and the completions of bash, zsh and fish
#[derive(Parser)]
#[command(name = "cliptext-package", version)]
struct Cli {
    /// What stands for /usr: files go to its share/man, share/bash-completion, share/zsh and share/fish
    prefix: PathBuf,
}

fn main() -> ExitCode {
    let Cli { prefix } = Cli::parse();
    for (name, bytes) in files() {
        if let Err(error) = write(&prefix.join(&name), &bytes) {
            cliptext_files::to_stderr!("cliptext-package: {}: {error}", prefix.join(&name).display());
            return ExitCode::FAILURE;
        }
        println!("{name}");
    }
    ExitCode::SUCCESS
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    cliptext_files::write(path, bytes)
}

/// The program's command line without the commands that its help hides: zsh would offer them.
fn shown() -> Command {
    let program = cliptext_run::command();
    let mut shown = Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION")) // the workspace's
        .args(program.get_arguments().cloned())
        .subcommands(program.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
        .subcommand_required(program.is_subcommand_required_set());
    if let Some(about) = program.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(text) = program.get_after_help() {
        shown = shown.after_help(text.clone());
    }
    shown
}

/// Every file: its name below the prefix, and what is in it.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = man_pages();
    for (shell, name) in [
        (Shell::Bash, format!("share/bash-completion/completions/{PROGRAM}")),
        (Shell::Zsh, format!("share/zsh/vendor-completions/_{PROGRAM}")),
        (Shell::Fish, format!("share/fish/vendor_completions.d/{PROGRAM}.fish")),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut shown(), PROGRAM, &mut script);
        files.push((name, script));
    }
    files
}

/// A page of the program and one of each command.
fn man_pages() -> Vec<(String, Vec<u8>)> {
    let mut program = shown().disable_help_subcommand(true);
    program.build();
    let mut pages = vec![&program];
    for command in program.get_subcommands() {
        // A command's own commands have pages too.
        pages.push(command);
        pages.extend(command.get_subcommands().filter(|own| own.get_name() != "help"));
    }
    let names: Vec<&str> = pages.iter().map(|page| page_name(page)).collect();
    pages
        .iter()
        .map(|page| {
            let text = man_page(page, &program, &names).expect("memory takes every page");
            (format!("share/man/man1/{}.1", page_name(page)), text)
        })
        .collect()
}

fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

/// One page; `names` are those of all pages.
fn man_page(command: &Command, program: &Command, names: &[&str]) -> io::Result<Vec<u8>> {
    let name = page_name(command);
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(" ") // none: the same source gives the same page; without the blank the next fields would move up
        .source(format!("cliptext {}", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    // What the program's help ends with holds for every command.
    section(&mut page, "EXIT STATUS", program)?;
    if name != PROGRAM {
        section(&mut page, "NOTES", command)?;
    }
    let mut also = Roff::new();
    also.control("SH", ["SEE ALSO"]);
    let others: Vec<&str> = names.iter().copied().filter(|other| *other != name).collect();
    for (index, other) in others.iter().enumerate() {
        let end = if index + 1 < others.len() { "(1), " } else { "(1)" };
        also.text([bold(*other), roman(end)]);
    }
    also.control("PP", []);
    also.text([roman("Documentation: /usr/share/doc/cliptext")]);
    also.to_writer(&mut page)?;
    Ok(page)
}

/// A section of the text that stands behind a command's options, if it has one.
fn section(page: &mut Vec<u8>, title: &str, command: &Command) -> io::Result<()> {
    let Some(text) = command.get_after_long_help().or(command.get_after_help()) else { return Ok(()) };
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for line in text.to_string().lines() {
        if line.trim().is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(line)]);
        }
    }
    roff.to_writer(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of the file that ends in `name`.
    fn text(name: &str) -> String {
        let mut found = files().into_iter().filter(|(file, _)| file.ends_with(name));
        let (_, bytes) = found.next().unwrap_or_else(|| panic!("no {name}"));
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn every_command_that_help_shows_has_a_page_and_no_other() {
        let pages: Vec<String> = man_pages().into_iter().map(|(name, _)| name).collect();
        for command in cliptext_run::command().get_subcommands() {
            let page = format!("share/man/man1/{PROGRAM}-{}.1", command.get_name());
            assert_eq!(pages.contains(&page), !command.is_hide_set(), "{page}");
            for own in command.get_subcommands() {
                let page = format!("share/man/man1/{PROGRAM}-{}-{}.1", command.get_name(), own.get_name());
                assert!(pages.contains(&page), "{page}");
            }
        }
        assert!(pages.contains(&format!("share/man/man1/{PROGRAM}.1")));
    }

    #[test]
    fn a_page_has_every_option_and_the_exit_codes() {
        let mut program = cliptext_run::command();
        program.build();
        for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
            if command.get_name() == "help" {
                continue;
            }
            let page = text(&format!("{PROGRAM}-{}.1", command.get_name())).replace("\\-", "-");
            for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
                if let Some(long) = option.get_long() {
                    assert!(page.contains(&format!("--{long}")), "{} lacks --{long}", command.get_name());
                }
            }
            assert!(page.contains("EXIT STATUS"), "{}", command.get_name());
        }
    }

    #[test]
    fn zsh_and_fish_are_told_every_command_that_help_shows_with_its_options() {
        for (shell, before, after) in
            [("_cliptext-run", "(", ")\n"), ("cliptext-run.fish", "_using_subcommand ", "\"")]
        {
            let script = text(shell);
            for command in cliptext_run::command().get_subcommands() {
                // In fish a command with commands of its own goes on.
                let is_shown = |after| script.contains(&format!("{before}{}{after}", command.get_name()));
                let shown = is_shown(after) || is_shown("; and not");
                assert_eq!(shown, !command.is_hide_set(), "{shell}: {}", command.get_name());
                for long in command.get_arguments().filter_map(|option| option.get_long()) {
                    assert!(!shown || script.contains(long), "{shell}: {} --{long}", command.get_name());
                }
            }
        }
    }

    /// What bash offers behind `words`, of which the last is unfinished.
    fn bash_offers(words: &[&str]) -> Vec<String> {
        let script = r#"
            source /dev/stdin
            completer=$(complete -p "$1" | sed 's/.*-F \([^ ]*\).*/\1/')
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            "$completer" "$1" "${@: -1}" "${@: -2:1}"
            printf '%s\n' "${COMPREPLY[@]}""#;
        let mut bash = std::process::Command::new("bash")
            .args(["-c", script, "bash", PROGRAM])
            .args(words)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("bash starts");
        let completions = text("completions/cliptext-run");
        io::Write::write_all(&mut bash.stdin.take().expect("piped"), completions.as_bytes())
            .expect("bash reads");
        let output = bash.wait_with_output().expect("bash ends");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_offers_the_commands_and_their_options() {
        let mut program = shown();
        program.build();
        let commands: Vec<&str> = program.get_subcommands().map(Command::get_name).collect();
        let mut offered = bash_offers(&[""]);
        offered.retain(|word| !word.starts_with('-'));
        assert_eq!(offered, commands);
        for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
            let mut options: Vec<String> = command
                .get_arguments()
                .filter(|option| !option.is_hide_set())
                .filter_map(|option| option.get_long().map(|long| format!("--{long}")))
                .collect();
            let mut offered = bash_offers(&[command.get_name(), "--"]);
            options.sort();
            offered.sort();
            assert_eq!(offered, options, "{}", command.get_name());
        }
    }
}
