//! How requests of each profile write the names of headers.

use crate::profile_hooks::{PROFILES, of_profile};
use postrider_core::{BasicAuth, sha1_hex};
use postrider_store::Backend;
use postrider_tests::{Manner, RawReceiver, TestApp, hook_to, on_both};

on_both!(header_names_are_written_as_each_service_writes_them);

async fn header_names_are_written_as_each_service_writes_them(backend: Backend) {
    let app = TestApp::on(backend).await;
    let expected: [&[&str]; 4] = [
        &["host", "content-type", "webhook-id", "x-api-key"],
        &[
            "Host",
            "Content-Type",
            "X-Solapi-Event-Name",
            "X-Solapi-Secret",
        ],
        &["Host", "Content-Type", "Authorization"],
        &[
            "Host",
            "Content-Type",
            "User-Agent",
            "X-Misskey-Hook-Secret",
            "X-Misskey-Hook-Id",
        ],
    ];
    let mut receivers = Vec::new();
    for profile in PROFILES {
        let receiver = RawReceiver::that(Manner::Accept).await;
        let mut hook = of_profile(hook_to(&receiver.url()), profile);
        hook.credentials.token = match profile {
            "solapi" => Some(sha1_hex("s3cr3t")),
            "misskey" => Some("s3cr3t".into()),
            _ => None,
        };
        match profile {
            "standard" => {
                let own = ("X-API-Key".into(), "1".into());
                hook.credentials.headers.push(own);
            }
            "thulium" => {
                hook.credentials.basic = Some(BasicAuth {
                    user: "user".into(),
                    password: "password".into(),
                });
            }
            _ => {}
        }
        app.register(hook).await;
        receivers.push(receiver);
    }
    app.enqueue("reply").await;
    app.tick().await;
    for (receiver, names) in receivers.iter().zip(expected) {
        let head = receiver.heads().remove(0);
        let got: Vec<_> = head
            .lines()
            .skip(1)
            .filter_map(|line| Some(line.split_once(':')?.0))
            .collect();
        assert_eq!(got[0], names[0], "{head}");
        for name in names {
            assert!(got.contains(name), "{name} in {head}");
        }
    }
}
