export const handler = async (event, context) => {
  console.log("event:", JSON.stringify(event));
  return {
    message: `Hello, ${event?.name ?? "world"}!`,
    runtime: `Node.js ${process.versions.node}`,
    memoryMb: Number(context.memoryLimitInMB),
    requestId: context.awsRequestId,
  };
};
