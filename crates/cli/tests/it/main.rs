//! The binary as a person or a script meets it: arguments in, results and exit codes out.

mod bad_input;
mod folder;
mod life;
mod serving;
mod settings_table;
mod sink;
mod traces;
