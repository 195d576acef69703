// Another service of the city, written after docs/specification.md alone: it stores drivers, users and a dispatch, and
// plays the steps of spec §7 with the AWS SDK. It knows nothing of the attributes that the workers add.
//
//   node service.mjs STEP ARGUMENT...     environment: TABLE, AWS_ENDPOINT_URL, AWS_REGION, credentials

import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DynamoDBDocumentClient, PutCommand, TransactWriteCommand, UpdateCommand } from "@aws-sdk/lib-dynamodb";

const table = process.env.TABLE;
const client = DynamoDBDocumentClient.from(new DynamoDBClient({}));

// Local time of Seoul.
function timestamp(offsetSeconds = 0) {
  const local = new Date(Date.now() + offsetSeconds * 1000 + 9 * 3600 * 1000);
  return local.toISOString().slice(0, 19) + "+09:00";
}

const pickup = { lat: 37.5662, lng: 126.9784, address: "서울시 중구 명동" };

const steps = {
  async driver(id, status) {
    const Item = {
      PK: id,
      SK: "PROFILE",
      EntityType: "DRIVER",
      phone: "01012348765",
      createdAt: timestamp(),
      vehicleInfo: { manufacturer: "현대", licensePlate: "서울12가3456", colour: "white" },
      currentStatus: {
        status,
        currentLocation: pickup,
        lastLocationUpdate: timestamp(),
        currentDispatchId: null,
      },
      preferences: {
        defaultRideType: "STANDARD",
        preferredRegions: ["중구"],
        maxDistance: 20,
        autoAccept: false,
        // A float where the workers need a whole number.
        minimumFare: 0.25,
      },
      completedRides: [],
      GSI1PK: `DRIVER#${status}`,
      GSI1SK: `REGION#중구#${id}`,
    };
    await client.send(new PutCommand({ TableName: table, Item }));
  },

  // 7.1, without keys of the indexes.
  async request(id, user) {
    const dispatch = {
      PK: id,
      SK: "METADATA",
      EntityType: "DISPATCH",
      userId: user,
      driverId: null,
      status: "REQUESTED",
      createdAt: timestamp(),
      updatedAt: timestamp(),
      pickupLocation: pickup,
      destination: { lat: 37.573, lng: 126.9768, address: "서울시 종로구 종로" },
      estimatedFare: 12000.4,
      actualFare: 0,
      route: [],
      events: [
        { type: "CREATED", timestamp: timestamp(), details: "배차 요청 생성" },
        { type: "COUPON_APPLIED", timestamp: timestamp(), details: "쿠폰 적용" },
      ],
      promotion: "여름",
    };
    const profile = {
      PK: user,
      SK: "PROFILE",
      EntityType: "USER",
      phone: "01098761234",
      createdAt: timestamp(),
      currentStatus: {
        status: "DISPATCHED",
        currentLocation: pickup,
        lastLocationUpdate: timestamp(),
        currentDispatchId: id,
      },
      paymentMethods: [],
      preferences: { defaultRideType: "STANDARD", favoriteLocations: [] },
    };
    const TransactItems = [dispatch, profile].map((Item) => ({ Put: { TableName: table, Item } }));
    await client.send(new TransactWriteCommand({ TransactItems }));
  },

  // 7.5, for a driver who accepts.
  async accept(id, driver) {
    const event = { type: "DRIVER_ACCEPTED", timestamp: timestamp(), details: "드라이버 수락" };
    const TransactItems = [
      {
        Update: {
          TableName: table,
          Key: { PK: id, SK: "METADATA" },
          UpdateExpression: "SET #status = :accepted, updatedAt = :now, events = list_append(events, :event)",
          ConditionExpression: "#status = :requested AND driverId = :driver",
          ExpressionAttributeNames: { "#status": "status" },
          ExpressionAttributeValues: {
            ":accepted": "ACCEPTED",
            ":requested": "REQUESTED",
            ":driver": driver,
            ":now": timestamp(),
            ":event": [event],
          },
        },
      },
      {
        Update: {
          TableName: table,
          Key: { PK: driver, SK: "PROFILE" },
          UpdateExpression: "SET currentStatus.#status = :busy, currentStatus.currentDispatchId = :id",
          ExpressionAttributeNames: { "#status": "status" },
          ExpressionAttributeValues: { ":busy": "DISPATCHED", ":id": id },
        },
      },
    ];
    await client.send(new TransactWriteCommand({ TransactItems }));
  },

  // The passenger got on board a minute ago.
  async pickup(id) {
    const event = { type: "PASSENGER_PICKED_UP", timestamp: timestamp(-60), details: "승객 탑승" };
    await client.send(
      new UpdateCommand({
        TableName: table,
        Key: { PK: id, SK: "METADATA" },
        UpdateExpression: "SET #status = :riding, updatedAt = :now, events = list_append(events, :event)",
        ConditionExpression: "#status = :accepted",
        ExpressionAttributeNames: { "#status": "status" },
        ExpressionAttributeValues: {
          ":riding": "IN_PROGRESS",
          ":accepted": "ACCEPTED",
          ":now": timestamp(),
          ":event": [event],
        },
      }),
    );
  },

  // 7.6: ten points, 111 m and five seconds apart.
  async route(id) {
    const points = Array.from({ length: 10 }, (_, step) => ({
      lat: pickup.lat + step * 0.001,
      lng: pickup.lng,
      timestamp: timestamp(5 * step - 50),
      distanceFromPrevious: step === 0 ? 0 : 111.2,
    }));
    await client.send(
      new UpdateCommand({
        TableName: table,
        Key: { PK: id, SK: "METADATA" },
        UpdateExpression: "SET route = list_append(route, :points)",
        ExpressionAttributeValues: { ":points": points },
      }),
    );
  },

  async status(driver, status) {
    await client.send(
      new UpdateCommand({
        TableName: table,
        Key: { PK: driver, SK: "PROFILE" },
        UpdateExpression: "SET currentStatus.#status = :status, GSI1PK = :partition",
        ExpressionAttributeNames: { "#status": "status" },
        ExpressionAttributeValues: { ":status": status, ":partition": `DRIVER#${status}` },
      }),
    );
  },
};

const [step, ...argumentsOfStep] = process.argv.slice(2);
await steps[step](...argumentsOfStep);
