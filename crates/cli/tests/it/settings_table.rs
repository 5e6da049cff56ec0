//! The table of hook settings in `docs/api.md` against their declaration.

use postrider_core::{HOOK_SETTINGS, HookSetting, SettingForm};

const BEGIN: &str =
    "<!-- hook settings: this table is made from crates/core/src/hook_settings.rs -->\n";
const END: &str = "<!-- end of hook settings -->\n";

#[test]
fn the_documented_settings_are_those_of_the_declaration() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once(BEGIN).expect("the beginning");
    let (documented, _) = rest.split_once(END).expect("the end");
    let declared = table();
    assert_eq!(
        documented, declared,
        "put this table into docs/api.md:\n{declared}"
    );
}

fn table() -> String {
    let head = "| field | flag | value | unless set | |\n| --- | --- | --- | --- | --- |\n";
    let rows = HOOK_SETTINGS.iter().map(row);
    head.to_owned() + &rows.collect::<String>()
}

fn row(setting: &HookSetting) -> String {
    format!(
        "| `{name}` | `--{flag}` | {value} | {default} | {summary} |\n",
        name = setting.name,
        flag = setting.name.replace('_', "-"),
        value = form(setting.form),
        default = setting.default,
        summary = setting.summary,
    )
}

fn form(form: SettingForm) -> String {
    match form {
        SettingForm::Count => "a number from 1".into(),
        SettingForm::Duration => "a duration such as `5s`".into(),
        SettingForm::Durations => {
            r#"`["5s", "5m", "1h"]`, at most 50; as a flag `5s,5m,1h`"#.into()
        }
        SettingForm::Rate => "`20/s`, `300/m`, `1000/h`".into(),
        SettingForm::Condition => "a [condition](filters.md)".into(),
        SettingForm::Choice(words) => format!("`{}`", words.join("` or `")),
    }
}
