package org.classkinfy.core

import java.io.File

/**
 * A bundle that answers: `ClasskinfyPipeline.open(folder).analyse(photo)`.
 *
 * Opening checks every file's hash, and the signature where there is one. Models are opened when a
 * stage in them first runs, or by [load]. One answer at a time: calls wait for each other.
 */
class ClasskinfyPipeline(
    private val bundle: Bundle,
    provider: EngineProvider,
    private val decoder: Decoder?,
    options: Options = Options(),
) : AutoCloseable {
    /** The bundle in this runtime; what the self-test and studies look into. */
    val session = Session(bundle, provider, options)

    val manifest: Manifest get() = bundle.manifest

    /** Of the manifest's bytes: the bundle's id. */
    val sha256: String get() = bundle.sha256

    val signer: Signer get() = bundle.signer

    /** Open the models of the stages that run on every image, so that the first answer need not. */
    @Throws(ClasskinfyException::class)
    @Synchronized
    fun load() = session.load()

    /**
     * Answer on an encoded photo. Its orientation tag is applied.
     *
     * @throws ImageException it is not a whole image
     * @throws EngineException the runtime failed, or gave no numbers
     */
    @JvmOverloads
    @Throws(ClasskinfyException::class)
    @Synchronized
    fun analyse(photo: ByteArray, listener: Listener? = null): Answer = answer(listener) {
        val upright = decoder?.decode(photo) ?: throw badImage(
            "there is no decoder on the class path",
            "add the android module, or hand over decoded Pixels",
        )
        Frame.frame(upright, manifest.capture, manifest.fit)
    }

    /** Answer on an upright decoded image. */
    @JvmOverloads
    @Throws(ClasskinfyException::class)
    @Synchronized
    fun analyse(image: Pixels, listener: Listener? = null): Answer =
        answer(listener) { Frame.frame(image, manifest.capture, manifest.fit) }

    /** Answer on a camera's frame. */
    @JvmOverloads
    @Throws(ClasskinfyException::class)
    @Synchronized
    fun analyse(frame: YuvImage, listener: Listener? = null): Answer =
        answer(listener) { Frame.frame(frame, manifest.capture, manifest.fit) }

    /**
     * Only the quality of a camera's frame, for hints before the shutter: `prepare` alone.
     *
     * @return measures by name, and the reasons to hint at
     */
    @Throws(ClasskinfyException::class)
    @Synchronized
    fun inspect(frame: YuvImage): Quality = session.inspect(Frame.frame(frame, manifest.capture, manifest.fit))

    /** Replay the golden vectors on this very device. */
    @Throws(ClasskinfyException::class)
    @Synchronized
    fun selfTest(): SelfTest.Report = SelfTest.run(session)

    @Synchronized
    override fun close() = session.close()

    private fun answer(listener: Listener?, framed: () -> Tensor): Answer {
        val timings = LinkedHashMap<String, Double>()
        val start = System.nanoTime()
        val image = framed()
        timings["frame"] = (System.nanoTime() - start) / 1e6
        return session.answer(image, listener, timings)
    }

    companion object {
        /**
         * Open a bundle's folder.
         *
         * @throws BundleException it is no bundle, was changed, is too new, or is not signed as asked
         * @throws EngineException no runtime on the class path can run it as asked
         */
        @JvmStatic
        @JvmOverloads
        @Throws(ClasskinfyException::class)
        fun open(folder: File, options: Options = Options()): ClasskinfyPipeline =
            of(Bundle.open(folder, options.trustedKeys), options)

        /** Run an opened bundle in the runtime and with the decoder that are on the class path. */
        @JvmStatic
        @JvmOverloads
        @Throws(ClasskinfyException::class)
        fun of(bundle: Bundle, options: Options = Options()): ClasskinfyPipeline =
            ClasskinfyPipeline(bundle, provider(bundle.manifest, options.runtime), Services.decoder(), options)

        internal fun provider(manifest: Manifest, runtime: String?): EngineProvider {
            val all = Services.engines()
            val found = all.firstOrNull {
                if (runtime != null) it.name == runtime else manifest.precisions(it.format).isNotEmpty()
            }
            return found ?: throw badEngine(
                if (runtime != null) "runtime $runtime is not on the class path"
                else "no runtime on the class path reads ${manifest.models.map { it.format }.distinct()}",
                "there are ${all.map { it.name }}: add engine-ort or engine-litert to the app",
            )
        }
    }
}
