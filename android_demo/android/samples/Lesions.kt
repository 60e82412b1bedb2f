import android.content.Context
import org.classkinfy.android.AssetBundle
import org.classkinfy.bundle.BundleConstants
import org.classkinfy.core.Answer
import org.classkinfy.core.ClasskinfyPipeline

/** Off the main thread: the first call unpacks the bundle. */
fun analyse(context: Context, jpeg: ByteArray): Answer {
    val folder = AssetBundle.install(context, BundleConstants.ASSET, BundleConstants.SHA256)
    return ClasskinfyPipeline.open(folder).use { it.analyse(jpeg) }
}
