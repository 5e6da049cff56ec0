//! The attribute that registers a case of the stores' conformance suite.
//!
//! A case is registered where it is written and nowhere else, so none can be forgotten: an
//! unmarked case is an unused function, which the suite refuses to compile.

use proc_macro::{TokenStream, TokenTree};

/// Runs a case on PostgreSQL and on SQLite, each time with a store on a database of its own.
///
/// The case is an `async fn` that takes a `&TestStore`. Case `a_case` of the file `leases.rs` runs
/// as `leases::a_case::on_postgres` and `leases::a_case::on_sqlite`. `#[conformance(postgres)]` and
/// `#[conformance(sqlite)]` run a case on one store only, where the other has nothing to compare.
#[proc_macro_attribute]
pub fn conformance(stores: TokenStream, case: TokenStream) -> TokenStream {
    let stores = match stores.to_string().as_str() {
        "" => vec![("on_postgres", "Postgres"), ("on_sqlite", "Sqlite")],
        "postgres" => vec![("on_postgres", "Postgres")],
        "sqlite" => vec![("on_sqlite", "Sqlite")],
        other => {
            return error(&format!(
                "no store is called {other}: write postgres or sqlite"
            ));
        }
    };
    let Some(name) = name_of(case.clone()) else {
        return error("only a function can be a case");
    };
    let tests: String = stores
        .iter()
        .map(|(test, backend)| {
            format!(
                "#[tokio::test(flavor = \"multi_thread\", worker_threads = 2)]
                async fn {test}() {{
                    let backend = postrider_store::Backend::{backend};
                    super::{name}(&postrider_tests::TestStore::on(backend).await).await;
                }}"
            )
        })
        .collect();
    let tests = format!("mod {name} {{ {tests} }}").parse();
    let tests: TokenStream = tests.unwrap_or_else(|_| error("the tests could not be written"));
    [case, tests].into_iter().collect()
}

/// The name that follows the first `fn` outside of brackets.
fn name_of(item: TokenStream) -> Option<String> {
    let mut tokens = item.into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"))?;
    tokens.next().map(|name| name.to_string())
}

fn error(message: &str) -> TokenStream {
    format!("compile_error!({message:?});")
        .parse()
        .unwrap_or_default()
}
