//! `orderflow product list`: what the shop sells, and how much of it there is.
//!
//! In: a category or a stock, and a page. Out: a line for each product, those among them that were withdrawn. A category is served
//! by its index; for a stock below a number the table is scanned, within the bounds of [`pagination`](crate::pagination).

use events::{Money, Name};
use exactly_once::Item;
use product::{
    dynamodb::{ProductCursor, Products, Selection as ProductsOf},
    rules::Product,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    error::CliError,
    output::{plain, table},
    pagination::{Page, PageRequest, TableScan, scan},
    stack::Stack,
};

/// Which products.
#[derive(Debug, Clone)]
pub(crate) enum Selection {
    All,
    Category(Name),
    /// Of which there are fewer pieces than this.
    StockBelow(u64),
}

/// One product of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ProductRow {
    pub product_id: String,
    pub name: String,
    pub category: Option<String>,
    /// Of one piece.
    pub price: Option<Money>,
    pub currency: String,
    /// Pieces that no order has taken.
    pub stock: Option<u64>,
    /// Whether the shop sells it.
    pub active: bool,
}

impl ProductRow {
    fn of(product: &Product) -> Self {
        Self {
            product_id: product.product_id.to_string(),
            name: product.name.to_string(),
            category: product.category.as_ref().map(ToString::to_string),
            price: Some(product.price),
            currency: product.currency.to_string(),
            stock: Some(product.stock),
            active: product.active,
        }
    }

    /// What cannot be read is empty: an operator is to see that it is there.
    fn read(item: &Item) -> Option<Self> {
        let text = |name: &str| item.get(name)?.as_s().ok().cloned();
        let number = |name: &str| item.get(name)?.as_n().ok();
        Some(Self {
            product_id: text("product_id")?,
            name: text("name").unwrap_or_default(),
            category: text("category"),
            price: number("price")
                .and_then(|units| units.parse().ok())
                .and_then(|units| Money::from_minor(units).ok()),
            currency: text("currency").unwrap_or_default(),
            stock: number("stock").and_then(|stock| stock.parse().ok()),
            active: item
                .get("active")
                .and_then(|active| active.as_bool().ok())
                .copied()
                .unwrap_or(true),
        })
    }
}

/// A page of products.
///
/// # Errors
/// The table does not answer, or the page is none of this list.
pub(crate) async fn list(
    stack: &Stack,
    selection: &Selection,
    request: &PageRequest,
) -> Result<Page<ProductRow>, CliError> {
    let name = stack.output("ProductsTable")?;
    match selection {
        Selection::Category(category) => by_category(stack, name, category, request).await,
        Selection::All => scan_products(stack, name, None, request).await,
        Selection::StockBelow(stock) => scan_products(stack, name, Some(*stock), request).await,
    }
}

async fn by_category(
    stack: &Stack,
    name: &str,
    category: &Name,
    request: &PageRequest,
) -> Result<Page<ProductRow>, CliError> {
    let after: Option<ProductCursor> = match &request.from {
        None => None,
        Some(id) => Some(serde_json::from_value(json!({ "after": id })).map_err(|_| {
            CliError::NotDone(format!(
                "{id:?} is no place in this list: take what the page before names"
            ))
        })?),
    };
    let selection = ProductsOf { category: Some(category.clone()), with_inactive: true };
    let products = Products::new(stack.dynamodb.clone(), name);
    let (products, next) = products.page(request.limit.into(), after, &selection).await?;
    // A page that has a next one ends where that begins.
    let next = next.and(products.last()).map(|last| last.product_id.to_string());
    Ok(Page { items: products.iter().map(ProductRow::of).collect(), read: None, next })
}

async fn scan_products(
    stack: &Stack,
    name: &str,
    stock_below: Option<u64>,
    request: &PageRequest,
) -> Result<Page<ProductRow>, CliError> {
    let wanted = TableScan { table: name, key: "product_id", is_filtered: stock_below.is_some() };
    let page = scan(stack, wanted, request, |call| match stock_below {
        None => call,
        Some(stock) => call
            .filter_expression("stock < :stock")
            .expression_attribute_values(":stock", exactly_once::table::number(stock)),
    });
    let page = page.await?;
    let items = page.items.iter().filter_map(ProductRow::read).collect();
    Ok(Page { items, read: page.read, next: page.next })
}

/// As people read it.
pub(crate) fn text(page: &Page<ProductRow>) -> String {
    if page.items.is_empty() {
        return format!("No such products.{}", page.end_text());
    }
    let rows = page.items.iter().map(|row| {
        vec![
            plain(&row.name),
            row.category.as_deref().map_or_else(|| "-".to_owned(), plain),
            row.price.map_or_else(|| "-".to_owned(), |price| format!("{price} {}", row.currency)),
            row.stock.map_or_else(|| "-".to_owned(), |stock| stock.to_string()),
            if row.active { "sold" } else { "withdrawn" }.to_owned(),
            plain(&row.product_id),
        ]
    });
    let table = table(&["product", "category", ">price", ">stock", "is", "product id"], rows);
    format!("{table}{}", page.end_text())
}

#[cfg(test)]
mod tests {
    use exactly_once::table::{number, text as attribute};

    use super::*;

    #[test]
    fn a_product_of_a_list_has_its_stock_and_whether_it_is_sold() {
        let mut item = Item::from([
            ("product_id".to_owned(), attribute("p1")),
            ("name".to_owned(), attribute("Lamp")),
            ("price".to_owned(), number(2050)),
            ("currency".to_owned(), attribute("UAH")),
            ("stock".to_owned(), number(7)),
        ]);
        let row = ProductRow::read(&item).expect("a product");
        assert!(row.active, "a product that is older than the attribute is sold");
        item.insert("active".to_owned(), aws_sdk_dynamodb::types::AttributeValue::Bool(false));
        let withdrawn = ProductRow::read(&item).expect("a product");
        let said = text(&Page { items: vec![row, withdrawn], read: Some(2), next: None });
        assert!(said.contains("20.50 UAH") && said.contains("sold"), "{said}");
        assert!(said.contains("withdrawn"), "{said}");
    }
}
