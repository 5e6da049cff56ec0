//! Tests that run on both databases.

/// Runs each story by its name on each store: `postgres::a_story` and `sqlite::a_story`.
///
/// A story is an `async fn` that takes the [`Backend`](postrider_store::Backend).
#[macro_export]
macro_rules! on_both {
    ($($story:ident),* $(,)?) => {
        mod postgres {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story(postrider_store::Backend::Postgres).await;
                }
            )*
        }

        mod sqlite {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story(postrider_store::Backend::Sqlite).await;
                }
            )*
        }
    };
}
