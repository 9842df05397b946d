//! Completions, manual pages and the schema: everything that is made from what the program knows of itself.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use remand_model::outcome::ExecutionResult;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output;

pub(crate) fn completions(shell: Shell) -> Result<u8, Failure> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "remand", &mut bytes);
    output::put_bytes(&bytes).map(|()| 0)
}

pub(crate) fn man(folder: Option<&Path>) -> Result<u8, Failure> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
        rendered.map_err(Failure::system("write the manual page"))?;
        return output::put_bytes(&page).map(|()| 0);
    };
    let written: io::Result<()> =
        fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Arguments::command(), folder));
    written.map_err(Failure::file("write the manual pages into", folder, "name a folder that can be written"))?;
    Ok(0)
}

pub(crate) fn schema() -> Result<u8, Failure> {
    output::put(&format!("{:#}\n", ExecutionResult::json_schema())).map(|()| 0)
}
