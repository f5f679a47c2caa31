// The same work in JavaScript, as the documentation of the AWS SDK v3 and Powertools has it: one handler for HTTP, one for a
// batch, bundled by esbuild.
//
// https://docs.powertools.aws.dev/lambda/typescript/latest/features/idempotency/
// https://docs.powertools.aws.dev/lambda/typescript/latest/features/batch/

import { randomUUID } from 'node:crypto';
import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch';
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency';
import { DynamoDBPersistenceLayer } from '@aws-lambda-powertools/idempotency/dynamodb';
import { DynamoDBClient, GetItemCommand, PutItemCommand, UpdateItemCommand } from '@aws-sdk/client-dynamodb';
import { PublishCommand, SNSClient } from '@aws-sdk/client-sns';

const dynamodb = new DynamoDBClient();
const sns = new SNSClient();
const persistenceStore = new DynamoDBPersistenceLayer({
  tableName: process.env.IDEMPOTENCY_TABLE,
  keyAttr: 'key',
  expiryAttr: 'expires_at',
  awsSdkV3Client: dynamodb,
});

const publish = (eventType, data) =>
  sns.send(
    new PublishCommand({
      TopicArn: process.env.TOPIC_ARN,
      Message: JSON.stringify({
        event_type: eventType,
        event_id: randomUUID(),
        event_version: '1.0',
        timestamp: new Date().toISOString(),
        data,
      }),
      MessageAttributes: { event_type: { DataType: 'String', StringValue: eventType } },
    }),
  );

const answer = (status, body) => ({
  statusCode: status,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});

export const order = makeIdempotent(
  async (event, _context) => {
    const { customer_email: email, items: lines } = JSON.parse(event.body);
    if (typeof email !== 'string' || !email.includes('@') || !lines?.length) {
      return answer(400, { type: 'validation' });
    }
    const items = [];
    for (const { product_id, quantity } of lines) {
      const found = await dynamodb.send(
        new GetItemCommand({
          TableName: process.env.PRODUCTS_TABLE,
          Key: { product_id: { S: product_id } },
          ConsistentRead: true,
        }),
      );
      if (!found.Item || !(quantity >= 1 && quantity <= 1000)) return answer(400, { type: 'validation' });
      const price = Number(found.Item.price.N);
      items.push({ product_id, quantity, unit_price: price, line_total: price * quantity });
    }
    const [orderId, createdAt] = [randomUUID(), new Date().toISOString()];
    const total = items.reduce((sum, item) => sum + item.line_total, 0);
    await dynamodb.send(
      new PutItemCommand({
        TableName: process.env.ORDERS_TABLE,
        Item: {
          order_id: { S: orderId },
          status: { S: 'pending' },
          customer_email: { S: email },
          items: { S: JSON.stringify(items) },
          total: { N: String(total) },
          created_at: { S: createdAt },
          updated_at: { S: createdAt },
          pending_shard: { S: String(Number.parseInt(orderId.slice(0, 2), 16) % 8) },
        },
        ConditionExpression: 'attribute_not_exists(order_id)',
      }),
    );
    const data = { order_id: orderId, items, total_price: total, customer_email: email };
    await publish('OrderCreated', data);
    return answer(201, { id: orderId, status: 'pending', ...data });
  },
  {
    persistenceStore,
    config: new IdempotencyConfig({
      eventKeyJmesPath: 'headers."idempotency-key"',
      throwOnNoIdempotencyKey: true,
    }),
  },
);

const processor = new BatchProcessor(EventType.SQS);
const recordConfig = new IdempotencyConfig({ eventKeyJmesPath: 'messageId' });

const reserve = makeIdempotent(
  async (record) => {
    const { data } = JSON.parse(record.body);
    for (const item of data.items) {
      await dynamodb.send(
        new UpdateItemCommand({
          TableName: process.env.PRODUCTS_TABLE,
          Key: { product_id: { S: item.product_id } },
          UpdateExpression: 'ADD stock :change',
          ConditionExpression: 'stock >= :quantity',
          ExpressionAttributeValues: {
            ':quantity': { N: String(item.quantity) },
            ':change': { N: String(-item.quantity) },
          },
        }),
      );
    }
    await publish('StockReserved', { order_id: data.order_id });
  },
  { persistenceStore, config: recordConfig, dataIndexArgument: 0 },
);

export const stock = (event, context) => {
  recordConfig.registerLambdaContext(context);
  return processPartialResponse(event, reserve, processor, { context });
};
