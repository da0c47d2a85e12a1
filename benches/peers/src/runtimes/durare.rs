//! durare, on SQLite.

use std::path::Path;
use std::sync::Arc;

use durare::{DurableContext, DurableEngine, SqliteProvider, WorkflowOptions};

use super::{Chained, in_tasks};
use crate::task::Result;

async fn chain(context: DurableContext, number: u64) -> durare::Result<u64> {
    let number = context.step("a", || async move { Ok(number) }).await?;
    let number = context.step("b", || async move { Ok(number) }).await?;
    context.step("c", || async move { Ok(number) }).await
}

pub(super) async fn chains(folder: &Path, at_a_time: u64, seconds: f64) -> Result<Chained> {
    let url = format!("sqlite://{}", folder.join("durare.db").display());
    let provider = SqliteProvider::connect(&url).await?;
    let mut engine = DurableEngine::new(Arc::new(provider)).await?;
    engine.register("chain", chain);
    engine.launch().await?;
    let engine = Arc::new(engine);
    in_tasks(at_a_time, seconds, move |id| {
        let engine = Arc::clone(&engine);
        async move {
            let options = WorkflowOptions::with_id(id);
            let handle = engine.start::<u64, u64>("chain", 7, options).await?;
            match handle.result().await? {
                7 => Ok(()),
                other => Err(format!("a chain of durare gave {other}").into()),
            }
        }
    })
    .await
}
