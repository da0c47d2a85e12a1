//! duroxide, on SQLite.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::sqlite::SqliteProvider;
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::runtime::{Runtime, RuntimeOptions};
use duroxide::{
    ActivityContext, Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus,
};

use super::{Chained, in_tasks};
use crate::task::Result;

const LONGEST: Duration = Duration::from_secs(60);

pub(super) async fn chains(folder: &Path, at_a_time: u64, seconds: f64) -> Result<Chained> {
    let path = folder.join("duroxide.db");
    std::fs::File::create(&path)?;
    let url = format!("sqlite:{}", path.display());
    let store = Arc::new(SqliteProvider::new(&url, None).await?);
    let activities = ActivityRegistry::builder()
        .register("step", |_: ActivityContext, input: String| async move {
            Ok(input)
        })
        .build();
    let chain = |context: OrchestrationContext, input: String| async move {
        let input = context.schedule_activity("step", input).await?;
        let input = context.schedule_activity("step", input).await?;
        context.schedule_activity("step", input).await
    };
    let chains = OrchestrationRegistry::builder()
        .register("chain", chain)
        .build();
    let options = RuntimeOptions {
        dispatcher_min_poll_interval: Duration::from_millis(1),
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::start_with_options(store.clone(), activities, chains, options).await;
    let client = Arc::new(Client::new(store));
    let done = in_tasks(at_a_time, seconds, move |id| {
        let client = Arc::clone(&client);
        async move {
            client.start_orchestration(&id, "chain", "7").await?;
            match client.wait_for_orchestration(&id, LONGEST).await? {
                OrchestrationStatus::Completed { .. } => Ok(()),
                _ => Err(format!("{id} of duroxide did not complete").into()),
            }
        }
    })
    .await;
    runtime.shutdown(None).await;
    done
}
