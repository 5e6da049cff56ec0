//! The program as a user for whom nothing was prepared (R21).

use postrider_store::Backend;
use postrider_tests::{Postrider, TestDatabase};

#[tokio::test]
async fn a_working_folder_that_may_not_be_entered_is_no_fault() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let postrider = Postrider::on(&database).shut_out();
    let checked = postrider.run(&["check"]).await.succeeded();
    assert!(checked.stderr.contains("cannot be entered"), "{checked}");
    assert!(checked.stdout.contains("database"), "{checked}");

    let named = ["check", "--config", "postrider.toml"];
    let refused = postrider.run(&named).await;
    assert_eq!(refused.status.code(), Some(1), "{refused}");
    assert!(
        refused.stdout.contains("postrider.toml cannot be read"),
        "{refused}"
    );
}
